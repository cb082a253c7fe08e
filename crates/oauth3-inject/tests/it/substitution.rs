//! Placeholders on the way out, values on the way back.

use crate::client::{get, raw_tls, send, send_other};
use crate::upstream::{Handler, text, whole};
use crate::world::{KEY, OTHER_KEY, World};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::sync::atomic::Ordering;

fn ok() -> Handler {
    whole(|_, _| text("ok"))
}

/// Sends back what it got, in many forms.
fn reflecting() -> Handler {
    whole(|head, body| {
        let key = head.headers.get("x-api-key").map(|v| v.as_bytes().to_vec()).unwrap_or_default();
        let key_text = String::from_utf8_lossy(&key).into_owned();
        let reply = format!(
            "plain {key_text} base64 {} hex {} body {}",
            BASE64.encode(&key),
            HEXLOWER.encode(&key),
            String::from_utf8_lossy(body)
        );
        let mut reply = text(reply);
        reply.headers_mut().insert("x-echo", format!("got {key_text}").parse().unwrap());
        reply.headers_mut().insert("location", format!("https://else.test/?k={key_text}").parse().unwrap());
        *reply.status_mut() = http::StatusCode::FOUND;
        reply
    })
}

#[tokio::test]
async fn the_host_gets_the_value_and_the_code_only_ever_had_a_placeholder() {
    let world = World::new(ok()).await;
    assert_ne!(world.placeholder, KEY);
    let bearer = format!("Bearer {}", world.placeholder);
    let twice = format!("{0};again={0}", world.placeholder);
    let got = send(&world, get("api.test", "/v1?a=b", &[("authorization", &bearer), ("x-api-key", &twice)])).await;
    assert_eq!((got.status, got.text().as_str()), (200, "ok"));
    let received = &world.upstream.received()[0];
    assert_eq!(received.line, "GET /v1?a=b");
    assert_eq!(received.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(received.headers["x-api-key"], format!("{KEY};again={KEY}"));
    assert_eq!(received.headers["host"], "api.test");
    assert_eq!(received.headers["accept-encoding"], "identity");
    assert_eq!(world.seen.uses(), [("KEY".into(), "api.test".into())]);
    assert!(world.egress.close().await.is_empty());
}

#[tokio::test]
async fn basic_credentials_are_filled_in() {
    let world = World::new(ok()).await;
    for pair in [format!("me:{}", world.placeholder), format!("{}:", world.placeholder)] {
        let value = format!("basic {}", BASE64.encode(pair.as_bytes()));
        assert_eq!(send(&world, get("api.test", "/", &[("authorization", &value)])).await.status, 200);
    }
    let sent: Vec<_> = world.upstream.received().iter().map(|r| r.headers["authorization"].clone()).collect();
    let basic = |pair: String| format!("Basic {}", BASE64.encode(pair.as_bytes()));
    assert_eq!(sent, [basic(format!("me:{KEY}")), basic(format!("{KEY}:"))]);
}

#[tokio::test]
async fn each_secret_goes_to_its_own_host_and_each_use_is_told_once() {
    let world = World::new(ok()).await;
    for _ in 0..2 {
        send(&world, get("api.test", "/", &[("x-key", &world.placeholder)])).await;
        send_other(&world, get("other.test:8443", "/", &[("x-key", &world.other_placeholder)])).await;
    }
    let sent: Vec<_> = world.upstream.received().iter().map(|r| r.headers["x-key"].clone()).collect();
    assert_eq!(sent, [KEY, OTHER_KEY, KEY, OTHER_KEY]);
    let uses = [("KEY".to_owned(), "api.test".to_owned()), ("OTHER".to_owned(), "other.test:8443".to_owned())];
    assert_eq!(world.seen.uses(), uses);
}

#[tokio::test]
async fn what_the_host_sends_back_is_scrubbed() {
    let world = World::new(reflecting()).await;
    let got = send(&world, get("api.test", "/", &[("x-api-key", &world.placeholder)])).await;
    assert_eq!(got.status, 302, "redirects go back to the code");
    let everything = format!("{:?} {}", got.headers, got.text());
    for form in [KEY.to_owned(), BASE64.encode(KEY.as_bytes()), HEXLOWER.encode(KEY.as_bytes())] {
        assert!(!everything.contains(&form), "{everything}");
    }
    assert_eq!(got.headers["x-echo"], format!("got {}", world.placeholder));
    assert_eq!(got.headers["content-length"], got.body.len().to_string().as_str());
}

#[tokio::test]
async fn no_corner_of_a_head_is_left_out() {
    let handler = whole(|head, _| {
        let key = head.headers["x-key"].to_str().unwrap().to_owned();
        let mut reply = text("ok");
        let name = format!("x-{}", key.to_ascii_lowercase()).parse::<http::HeaderName>().unwrap();
        reply.headers_mut().insert(name, "1".parse().unwrap());
        reply.headers_mut().append("set-cookie", format!("a={key}").parse().unwrap());
        reply.headers_mut().append("set-cookie", "b=1".parse().unwrap());
        reply.extensions_mut().insert(hyper::ext::ReasonPhrase::try_from(format!("OK {key}").into_bytes()).unwrap());
        reply
    });
    let lower = "ghp_a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8";
    let world = World::with(handler, &[lower], true).await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: api.test\r\nx-key: {}\r\nConnection: close\r\n\r\n", world.placeholder);
    let reply = raw_tls(&world, &request).await;
    assert!(!reply.contains(lower), "{reply}");
    assert!(reply.starts_with(&format!("HTTP/1.1 200 OK {}\r\n", world.placeholder)), "{reply}");
    assert!(reply.contains(&format!("set-cookie: a={}\r\nset-cookie: b=1\r\n", world.placeholder)), "{reply}");
}

#[tokio::test]
async fn slots_that_no_binding_covers_keep_the_placeholder() {
    let world = World::new(whole(|_, body| text(body.to_vec()))).await;
    let request = Request::post(format!("/{0}?key={0}", world.placeholder))
        .header("host", "api.test")
        .body(Full::from(format!("key={}", world.placeholder)))
        .unwrap();
    let got = send(&world, request).await;
    assert_eq!((got.status, got.text()), (200, format!("key={}", world.placeholder)));
    assert_eq!(world.upstream.received()[0].line, format!("POST /{0}?key={0}", world.placeholder));
    assert!(world.seen.uses().is_empty());
}

#[tokio::test]
async fn a_placeholder_toward_another_host_ends_the_request() {
    let world = World::new(ok()).await;
    let ph = &world.other_placeholder;
    let percent: String = ph.bytes().map(|b| format!("%{b:02x}")).collect();
    let twice = percent.replace('%', "%25");
    let basic = format!("Basic {}", BASE64.encode(format!("me:{ph}").as_bytes()));
    let name = format!("x-{}", ph.to_ascii_lowercase());
    let requests = [
        get("api.test", "/", &[("authorization", &format!("Bearer {ph}"))]),
        get("api.test", "/", &[("x-any", &format!("{} {ph}", world.placeholder))]),
        get("api.test", "/", &[("authorization", &basic)]),
        get("api.test", "/", &[("proxy-authorization", &basic)]),
        get("api.test", "/", &[("x-any", &percent)]),
        get("api.test", "/", &[(&name, "1")]),
        get("api.test", &format!("/a/{ph}"), &[]),
        get("api.test", &format!("/?q={percent}"), &[]),
        get("api.test", &format!("/?q={twice}"), &[]),
    ];
    for request in requests {
        let what = format!("{request:?}");
        let got = send(&world, request).await;
        assert_eq!(got.status, 403, "{what}");
        got.refused(403, "placeholder of a secret that is not bound to this host");
    }
    assert!(world.upstream.received().is_empty(), "nothing left");
    assert!(world.seen.uses().is_empty());
    let refusals = world.seen.refusals();
    assert_eq!(refusals.len(), 1, "each distinct refusal is told once: {refusals:?}");
    assert!(refusals[0].0 == "api.test" && refusals[0].1.contains("OTHER"));
    let sentences = world.egress.close().await;
    assert!(sentences.len() == 1 && sentences[0].starts_with("api.test: "), "{sentences:?}");
}

#[tokio::test]
async fn a_binding_is_to_name_and_port() {
    let world = World::new(ok()).await;
    let got = send_other(&world, get("other.test:8443", "/", &[("x-key", &world.placeholder)])).await;
    got.refused(403, "(KEY)");
}

#[tokio::test]
async fn a_placeholder_in_the_body_toward_another_host_ends_the_request() {
    let world = World::new(ok()).await;
    let percent: String = world.other_placeholder.bytes().map(|b| format!("%{b:02X}")).collect();
    for body in [format!("{}{}", "x".repeat(100_000), world.other_placeholder), format!("k={percent}&a=b")] {
        let request = Request::post("/").header("host", "api.test").body(Full::from(body)).unwrap();
        send(&world, request).await.refused(403, "(OTHER)");
    }
    assert_eq!(world.seen.refusals().len(), 1);
}

#[tokio::test]
async fn a_use_that_cannot_be_recorded_does_not_happen() {
    let world = World::new(ok()).await;
    world.seen.silent.store(true, Ordering::SeqCst);
    let request = || get("api.test", "/", &[("x-key", &world.placeholder)]);
    send(&world, request()).await.refused(503, "could not be recorded");
    assert_eq!(world.upstream.connections(), 0, "not even a connection was made");
    world.seen.silent.store(false, Ordering::SeqCst);
    assert_eq!(send(&world, request()).await.status, 200, "it is tried again");
}

#[tokio::test]
async fn a_value_that_fits_no_field_stays_here() {
    let world = World::with(ok(), &["sk-proj-abcdefghij\r\nx-injected: 1\r\n"], true).await;
    send(&world, get("api.test", "/", &[("x-key", &world.placeholder)])).await.refused(502, "line break");
    let basic = format!("Basic {}", BASE64.encode(format!("me:{}", world.placeholder).as_bytes()));
    send(&world, get("api.test", "/", &[("authorization", &basic)])).await.refused(502, "line break");
    assert!(world.upstream.received().is_empty());
}

#[tokio::test]
async fn a_reply_that_cannot_be_read_does_not_pass_from_a_host_that_knows_a_secret() {
    let encoded = whole(|head, _| {
        let (field, value) = match head.uri.path() {
            "/dictionary" => ("content-encoding", "dcz"),
            _ => ("content-type", "text/plain; charset=utf-16"),
        };
        Response::builder()
            .header(field, value)
            .body(Full::from(Bytes::from_static(b"s\0k\0-")).boxed_unsync())
            .unwrap()
    });
    let world = World::with(encoded, &[KEY], true).await;
    for path in ["/dictionary", "/wide"] {
        let plain = send_other(&world, get("other.test:8443", path, &[])).await;
        assert_eq!((plain.status, plain.body.len()), (200, 5), "without a secret it is none of our business");
        // The value may have gone there in an earlier run: bound is enough.
        for fields in [&[][..], &[("x-key", world.placeholder.as_str())]] {
            send(&world, get("api.test", path, fields)).await.refused(502, "cannot be scrubbed");
        }
    }
}

/// What is asked for in pieces is never seen whole by the scrubber.
#[tokio::test]
async fn a_host_that_knows_a_secret_is_not_asked_for_pieces() {
    let world = World::with(ok(), &[KEY], true).await;
    let fields = [("range", "bytes=0-3"), ("if-range", "\"1\""), ("accept-charset", "utf-16")];
    send(&world, get("api.test", "/", &fields)).await;
    send_other(&world, get("other.test:8443", "/", &fields)).await;
    let received = world.upstream.received();
    for name in ["range", "if-range", "accept-charset"] {
        assert!(!received[0].headers.contains_key(name), "{name}");
    }
    assert_eq!(received[1].headers["range"], "bytes=0-3");
}

#[tokio::test]
async fn without_secrets_nothing_is_touched() {
    let world = World::with(whole(|_, body| text(body.to_vec())), &[], true).await;
    let request = Request::post("/")
        .header("host", "api.test")
        .header("accept-encoding", "br")
        .body(Full::from(KEY.to_owned()))
        .unwrap();
    assert_eq!(send(&world, request).await.text(), KEY);
    assert_eq!(world.upstream.received()[0].headers["accept-encoding"], "br");
}
