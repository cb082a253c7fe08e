//! Where a value may stand, and what else stands there.

use crate::client::{connect, get, read, send};
use crate::world::{KEY, World, keeping, used};
use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use oauth3_core::{Slot, Uses};
use std::convert::Infallible;

const SLOTS: [Slot; 4] = [Slot::Header, Slot::Query, Slot::Path, Slot::Body];

fn slots(slots: &[Slot]) -> Uses {
    Uses { slots: slots.iter().copied().collect(), ..Uses::default() }
}

fn post(target: &str, media: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(target).header("host", "api.test").header("content-type", media).body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn each_slot_is_filled_only_where_the_binding_says() {
    for slot in SLOTS {
        let (handler, bodies) = keeping();
        let world = World::lent(handler, used(KEY, slots(&[slot])), true).await;
        let mark = &world.placeholder;
        let mut request = post(&format!("/bot{mark}/send?k={mark}&n=1"), "text/plain", format!("body {mark} end"));
        request.headers_mut().insert("x-key", mark.parse().unwrap());
        assert_eq!(send(&world, request).await.status, 200, "{slot}");
        let got = &world.upstream.received()[0];
        let value = |wanted| if slot == wanted { KEY } else { mark };
        let line = format!("POST /bot{}/send?k={}&n=1", value(Slot::Path), value(Slot::Query));
        assert_eq!(got.line, line, "{slot}");
        assert_eq!(got.headers["x-key"], value(Slot::Header), "{slot}");
        assert_eq!(bodies.lock().unwrap()[0], format!("body {} end", value(Slot::Body)), "{slot}");
        assert_eq!(world.seen.uses(), [("KEY".into(), "api.test".into())], "{slot}");
    }
}

/// A value with something in it that every syntax must write differently.
const AWKWARD: &str = "p/ä\"<&'k \\y+=1;%41";

#[tokio::test]
async fn each_syntax_writes_the_value_so_that_it_means_itself() {
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(AWKWARD, slots(&SLOTS)), true).await;
    let mark = &world.placeholder;
    send(&world, get("api.test", &format!("/a/{mark}?q=a+b{mark}%20c"), &[])).await;
    send(&world, post("/", "application/json", format!(r#"{{"k":"<{mark}>","n":"\u00e4"}}"#))).await;
    send(&world, post("/", "application/x-www-form-urlencoded", format!("k={mark}&n=a+b"))).await;
    send(&world, post("/", "text/plain", format!("k={mark}"))).await;
    let escaped = "p%2F%C3%A4%22%3C%26%27k%20%5Cy%2B%3D1%3B%2541";
    assert_eq!(world.upstream.received()[0].line, format!("GET /a/{escaped}?q=a+b{escaped}%20c"));
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies[1], r#"{"k":"<p/ä\"<&'k \\y+=1;%41>","n":"\u00e4"}"#);
    assert_eq!(bodies[2], format!("k={escaped}&n=a+b"));
    assert_eq!(bodies[3], format!("k={AWKWARD}"));
}

#[tokio::test]
async fn a_placeholder_may_be_written_with_escapes() {
    let value = "tok+abcdefghij/klmnopqr==stuvwxyz123";
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(value, slots(&SLOTS)), true).await;
    let escaped: String = world.placeholder.bytes().map(|b| format!("%{b:02x}")).collect();
    send(&world, get("api.test", &format!("/{escaped}?k={escaped}"), &[])).await;
    send(&world, post("/", "application/x-www-form-urlencoded", format!("k={escaped}"))).await;
    send(&world, post("/", "application/json", format!(r#"["{}"]"#, world.placeholder.replace('/', "\\/")))).await;
    let filled = "tok%2Babcdefghij%2Fklmnopqr%3D%3Dstuvwxyz123";
    assert_eq!(world.upstream.received()[0].line, format!("GET /{filled}?k={filled}"));
    let bodies = bodies.lock().unwrap();
    assert_eq!(
        (bodies[1].as_str(), bodies[2].as_str()),
        (format!("k={filled}").as_str(), format!("[\"{value}\"]").as_str())
    );
}

#[tokio::test]
async fn bodies_are_filled_across_the_borders_of_their_pieces() {
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(KEY, slots(&[Slot::Body])), true).await;
    let text = format!("{}{1}-{1}{2}", "x".repeat(70_000), world.placeholder, "y".repeat(400_000));
    let filled = text.replace(&world.placeholder, KEY);
    for size in [7, 1000, 70_010, 500_000] {
        let pieces: Vec<_> =
            text.as_bytes().chunks(size).map(|c| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(c)))).collect();
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let request = Request::post("/").header("host", "api.test").body(body).unwrap();
        let mut sender = connect(&world, world.tls, "api.test").await;
        assert_eq!(read(sender.send_request(request).await.unwrap()).await.status, 200, "{size}");
        assert_eq!(bodies.lock().unwrap().pop().unwrap(), filled, "{size}");
    }
    // Of known length: small ones go out with their new length, large ones in chunks.
    send(&world, post("/", "text/plain", world.placeholder.clone())).await;
    send(&world, post("/", "text/plain", text)).await;
    let received = world.upstream.received();
    assert_eq!(received[4].headers["content-length"], KEY.len().to_string().as_str());
    assert_eq!(received[5].headers["transfer-encoding"], "chunked");
    assert_eq!(bodies.lock().unwrap().pop().unwrap(), filled);
}

#[tokio::test]
async fn a_body_that_cannot_be_looked_into_does_not_pass_where_it_would_have_to_be_filled() {
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(KEY, slots(&[Slot::Body])), true).await;
    let mut request = post("/", "text/plain", "\u{1f}compressed");
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    send(&world, request).await.refused(400, "without Content-Encoding");
    let world = World::lent(keeping().0, used(KEY, Uses::default()), true).await;
    let mut request = post("/", "text/plain", "\u{1f}compressed");
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(send(&world, request).await.status, 200, "no secret stands in bodies there");
    assert!(bodies.lock().unwrap().is_empty());
}

#[tokio::test]
async fn values_that_mean_something_else_where_they_would_stand_stay_here() {
    let world = World::lent(keeping().0, used("..", slots(&[Slot::Path])), true).await;
    send(&world, get("api.test", &format!("/a/{}/b", world.placeholder), &[])).await.refused(502, "a dot in a path");
    assert!(world.upstream.received().is_empty());
}

#[tokio::test]
async fn credentials_that_the_code_brought_go_when_ours_come() {
    let world = World::lent(keeping().0, used(KEY, slots(&[Slot::Header, Slot::Query])), true).await;
    let bearer = format!("Bearer {}", world.placeholder);
    let own = [
        ("x-api-key", "mine"),
        ("api-key", "mine"),
        ("x-goog-api-key", "mine"),
        ("x-access-token", "mine"),
        ("private-token", "mine"),
        ("cookie", "session=of-the-host"),
        ("x-other", "1"),
    ];
    let fields: Vec<_> = own.into_iter().chain([("authorization", bearer.as_str())]).collect();
    send(&world, get("api.test", "/?key=mine&a=1&%61pi_key=mine&access_token=mine&b", &fields)).await;
    let got = &world.upstream.received()[0];
    assert_eq!(got.line, "GET /?a=1&b");
    assert_eq!(got.headers["authorization"], format!("Bearer {KEY}"));
    for (name, _) in &own[..5] {
        assert!(!got.headers.contains_key(*name), "{name}");
    }
    assert_eq!(
        (&got.headers["cookie"], &got.headers["x-other"]),
        (&"session=of-the-host".parse().unwrap(), &"1".parse().unwrap())
    );

    // The other way round, and in the query and a cookie.
    let query = format!("/?key={}&a=1", world.placeholder);
    send(&world, get("api.test", &query, &[("authorization", "Bearer mine")])).await;
    let cookie = format!("a=1; token={}", world.placeholder);
    send(&world, get("api.test", "/?key=mine", &[("cookie", cookie.as_str()), ("x-api-key", "mine")])).await;
    let received = world.upstream.received();
    assert_eq!(received[1].line, format!("GET /?key={KEY}&a=1"));
    assert!(!received[1].headers.contains_key("authorization"));
    assert_eq!(received[2].line, "GET /");
    assert!(!received[2].headers.contains_key("x-api-key"));

    // Two of ours are two of ours; and what holds no secret is none of our business.
    send(&world, get("api.test", &query, &[("authorization", bearer.as_str()), ("x-api-key", &world.placeholder)]))
        .await;
    send(&world, get("api.test", "/?key=mine", &[("authorization", "Bearer mine")])).await;
    let received = world.upstream.received();
    assert_eq!(
        (received[3].headers["x-api-key"].to_str().unwrap(), received[3].headers["authorization"].to_str().unwrap()),
        (KEY, format!("Bearer {KEY}").as_str())
    );
    assert_eq!(
        (received[4].line.as_str(), &received[4].headers["authorization"]),
        ("GET /?key=mine", &"Bearer mine".parse().unwrap())
    );
}

#[tokio::test]
async fn a_place_that_says_who_calls_stands_once_beside_a_secret() {
    let world = World::lent(keeping().0, used(KEY, slots(&[Slot::Header, Slot::Query])), true).await;
    let twice = [("x-api-key", world.placeholder.as_str()), ("x-api-key", "mine")];
    let request = |fields: &[(&str, &str)]| {
        let request = Request::get("/").header("host", "api.test");
        fields.iter().fold(request, |request, (n, v)| request.header(*n, *v)).body(Full::<Bytes>::default()).unwrap()
    };
    send(&world, request(&twice)).await.refused(400, "stands twice");
    send(&world, get("api.test", &format!("/?key={}&Key=mine", world.placeholder), &[]))
        .await
        .refused(400, "stands twice");
    assert!(world.upstream.received().is_empty());
}
