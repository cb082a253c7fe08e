//! Methods and paths that a secret may be used for.

use crate::client::{get, send};
use crate::world::{KEY, World, keeping, used};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use oauth3_core::{Slot, Uses};

fn acme() -> Uses {
    let rules = ["api.test GET,POST /repos/acme/*", "api.test GET /user"].map(|rule| rule.parse().unwrap()).into();
    Uses { rules, slots: [Slot::Header, Slot::Body].into(), ..Uses::default() }
}

fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(target);
    let request = fields.iter().fold(request.header("host", "api.test"), |request, (n, v)| request.header(*n, *v));
    request.body(Full::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn a_secret_goes_where_a_rule_allows_and_nowhere_else_at_the_same_host() {
    let world = World::lent(keeping().0, used(KEY, acme()), true).await;
    let bearer = format!("Bearer {}", world.placeholder);
    let fields = [("authorization", bearer.as_str())];
    for (method, target) in [("GET", "/repos/acme/site?x=/../y"), ("POST", "/repos/acme/%73ite"), ("GET", "/user")] {
        assert_eq!(send(&world, request(method, target, &fields, "")).await.status, 200, "{method} {target}");
    }
    assert_eq!(world.upstream.received().len(), 3);
    for (method, target) in [
        ("DELETE", "/repos/acme/site"),
        ("GET", "/repos/evil/site"),
        ("POST", "/user"),
        ("GET", "/repos/acme/site/keys"),
    ] {
        send(&world, request(method, target, &fields, "")).await.refused(403, "no rule of the secret allows");
    }
    for target in
        ["/repos/acme/../evil", "/repos/acme/%2e%2e/evil", "/repos//acme/x", "/repos/acme%2Fx", "/repos/acme/..;/x"]
    {
        send(&world, request("GET", target, &fields, "")).await.refused(403, "read in two ways");
    }
    let hidden = [fields[0], ("x-http-method-override", "DELETE")];
    send(&world, request("POST", "/repos/acme/site", &hidden, "")).await.refused(403, "another method or path");
    send(&world, request("POST", "/repos/acme/site?_method=delete", &fields, ""))
        .await
        .refused(403, "another method or path");
    assert_eq!(world.upstream.received().len(), 3, "nothing of it left");
    let refusals = world.seen.refusals();
    assert!(
        refusals.len() == 3 && refusals.iter().all(|(host, text)| host == "api.test" && text.contains("(KEY)")),
        "{refusals:?}"
    );
}

#[tokio::test]
async fn a_placeholder_in_a_body_is_a_placeholder() {
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(KEY, acme()), true).await;
    let body = format!("k={}", world.placeholder);
    send(&world, request("PUT", "/repos/acme/site", &[], &body)).await.refused(403, "no rule of the secret allows");
    assert_eq!(send(&world, request("POST", "/repos/acme/site", &[], &body)).await.status, 200);
    assert_eq!(bodies.lock().unwrap().as_slice(), [format!("k={KEY}")]);
}

#[tokio::test]
async fn requests_without_the_placeholder_are_not_bound_by_its_rules() {
    let world = World::lent(keeping().0, used(KEY, acme()), true).await;
    assert_eq!(send(&world, get("api.test", "/anything/../at/all", &[])).await.status, 200);
}
