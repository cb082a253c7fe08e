//! The ways in, and what is turned away.

use crate::client::{connect, get, proxy_connect, raw, raw_tls, read, send, speak, tls, tls_config};
use crate::names;
use crate::upstream::{HANG_UP, Handler, text, whole};
use crate::world::{KEY, World};
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::TlsConnector;

fn ok() -> Handler {
    whole(|_, _| text("ok"))
}

#[tokio::test]
async fn a_connection_carries_many_requests_and_so_does_the_one_upstream() {
    let world = World::new(ok()).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    for _ in 0..5 {
        sender.ready().await.unwrap();
        let got = read(sender.send_request(get("api.test:443", "/", &[])).await.unwrap()).await;
        assert_eq!(got.status, 200);
    }
    assert_eq!((world.upstream.received().len(), world.upstream.connections()), (5, 1));
}

#[tokio::test]
async fn the_name_in_the_handshake_must_be_allowed() {
    let world = World::new(ok()).await;
    let mut sender = connect(&world, world.tls, "evil.test").await;
    read(sender.send_request(get("evil.test", "/", &[])).await.unwrap()).await.refused(403, "evil.test: this host");
    // The right name on a port that is not its own.
    let mut sender = connect(&world, world.tls, "other.test").await;
    read(sender.send_request(get("other.test", "/", &[])).await.unwrap()).await.refused(403, "not allowed");
    assert_eq!(world.upstream.connections(), 0);
    assert_eq!(world.seen.refusals()[0].0, "evil.test");
}

#[tokio::test]
async fn everything_must_name_the_same_host() {
    let world = World::new(ok()).await;
    for host in ["other.test:8443", "api.test:8443", "evil.test", "api.test.", "user@api.test", ""] {
        let mut sender = connect(&world, world.tls, "api.test").await;
        let got = read(sender.send_request(get(host, "/", &[])).await.unwrap()).await;
        got.refused(421, "another host");
    }
    let reply = raw_tls(&world, "GET https://evil.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 421 "), "{reply}");
    let reply = raw_tls(&world, "GET https://api.test/x HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(world.upstream.received().len(), 1);
}

#[tokio::test]
async fn tls_without_a_name_is_refused() {
    let world = World::new(ok()).await;
    let connector = TlsConnector::from(Arc::new(tls_config(world.egress.ca_pem(), false, &[])));
    let stream = TcpStream::connect(world.tls).await.unwrap();
    assert!(connector.connect(ServerName::try_from("api.test").unwrap(), stream).await.is_err());
    let sentences = world.egress.close().await;
    assert!(sentences[0].contains("without a server name"), "{sentences:?}");
}

#[tokio::test]
async fn plain_http_is_refused() {
    let world = World::new(ok()).await;
    let request = "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let reply = raw(TcpStream::connect(world.plain).await.unwrap(), request).await;
    assert!(
        reply.starts_with("HTTP/1.1 403 ") && reply.contains("api.test: plain http is refused; use https"),
        "{reply}"
    );
    let request = "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let reply = raw(TcpStream::connect(world.proxy).await.unwrap(), request).await;
    assert!(reply.starts_with("HTTP/1.1 403 ") && reply.contains("use https"), "{reply}");
    assert_eq!(world.upstream.connections(), 0);
}

#[tokio::test]
async fn connect_leads_to_the_same_checks() {
    let world = World::new(ok()).await;
    let stream = proxy_connect(&world, "api.test:443").await.ok().unwrap();
    let mut sender = speak(tls(&world, stream, "api.test").await).await;
    let got = read(sender.send_request(get("api.test", "/", &[("x-key", &world.placeholder)])).await.unwrap()).await;
    assert_eq!(got.status, 200);
    assert_eq!(world.upstream.received()[0].headers["x-key"], KEY);

    let stream = proxy_connect(&world, "api.test:443").await.ok().unwrap();
    let mut sender = speak(tls(&world, stream, "other.test").await).await;
    read(sender.send_request(get("api.test", "/", &[])).await.unwrap()).await.refused(403, "not allowed");

    for (authority, status) in
        [("evil.test:443", 403), ("api.test:80", 403), ("127.0.0.1:443", 403), ("other.test:443", 403)]
    {
        let got = proxy_connect(&world, authority).await.err().unwrap();
        got.refused(status, "not allowed");
    }
}

#[tokio::test]
async fn absolute_form_in_clear_goes_out_over_tls() {
    let world = World::new(ok()).await;
    let mut sender = speak(TcpStream::connect(world.proxy).await.unwrap()).await;
    let request = |uri: &str, host: &str| {
        Request::get(uri)
            .header("host", host)
            .header("x-key", &world.placeholder)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let got = read(sender.send_request(request("https://api.test/a?b=c", "api.test")).await.unwrap()).await;
    assert_eq!(got.status, 200);
    let received = &world.upstream.received()[0];
    assert_eq!((received.line.as_str(), &received.headers["x-key"]), ("GET /a?b=c", &KEY.parse().unwrap()));
    for (uri, host, status) in [
        ("https://evil.test/", "evil.test", 403),
        ("https://api.test/", "other.test:8443", 421),
        ("https://me:pw@api.test/", "api.test", 403),
        ("/", "api.test", 400),
    ] {
        let mut sender = speak(TcpStream::connect(world.proxy).await.unwrap()).await;
        read(sender.send_request(request(uri, host)).await.unwrap()).await.refused(status, "");
    }
    assert_eq!(world.upstream.received().len(), 1);
}

#[tokio::test]
async fn absolute_form_may_leave_out_the_host_field() {
    let world = World::new(ok()).await;
    let request = "GET https://other.test:8443/ HTTP/1.1\r\nConnection: close\r\n\r\n";
    let reply = raw(TcpStream::connect(world.proxy).await.unwrap(), request).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(world.upstream.received()[0].headers["host"], "other.test:8443");
}

#[tokio::test]
async fn requests_that_two_readers_could_read_differently_are_refused() {
    let world = World::new(ok()).await;
    let bad = [
        ("GET / HTTP/1.1\r\nHost: api.test\r\nHost: api.test", "more than one Host"),
        ("GET / HTTP/1.1\r\nX: 1", "no Host field"),
        ("GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: a\r\nAuthorization: b", "more than one Authorization"),
        ("POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 2", ""),
        ("POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked, gzip", ""),
        (
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: a\r\nConnection: x, Authorization",
            "Connection field lists",
        ),
    ];
    for (head, part) in bad {
        let reply = raw_tls(&world, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains(part), "{head}: {reply}");
    }
    assert!(world.upstream.received().is_empty());
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let world = World::new(whole(|_, body| text(body.to_vec()))).await;
    for order in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let request =
            format!("POST / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{order}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let reply = raw_tls(&world, &request).await;
        assert!(reply.starts_with("HTTP/1.1 400 ") || reply.ends_with("hello"), "{reply}");
    }
    assert!(world.upstream.received().iter().all(|r| !r.headers.contains_key("content-length")));
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let world = World::new(ok()).await;
    for (method, fields, status, part) in [
        ("GET", "Connection: close, upgrade\r\nUpgrade: h2c\r\n", 501, "WebSocket"),
        ("GET", "Connection: close, upgrade\r\nUpgrade: websocket, h2c\r\n", 501, "WebSocket"),
        ("TRACE", "Connection: close\r\n", 405, "TRACE"),
        ("POST", "Connection: close\r\nTransfer-Encoding: gzip, chunked\r\n", 501, "chunked"),
    ] {
        let reply = raw_tls(&world, &format!("{method} / HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n")).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")) && reply.contains(part), "{reply}");
    }
    let reply = raw_tls(&world, "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
    assert!(world.upstream.received().is_empty());
}

#[tokio::test]
async fn a_host_whose_certificate_is_not_trusted_gets_nothing() {
    let world = World::with(ok(), &[KEY], false).await;
    let got = send(&world, get("api.test", "/", &[("x-key", &world.placeholder)])).await;
    got.refused(502, "unknown authority");
    assert!(world.upstream.received().is_empty());
    let sentences = world.egress.close().await;
    assert!(sentences[0].contains("unknown authority"), "{sentences:?}");
}

#[tokio::test]
async fn one_way_fields_stay_here() {
    let handler = whole(|_, _| {
        let mut reply = text("ok");
        reply.headers_mut().insert("alt-svc", "h3=\":443\"".parse().unwrap());
        reply.headers_mut().insert("x-hop", "1".parse().unwrap());
        reply.headers_mut().insert("connection", "x-hop".parse().unwrap());
        reply
    });
    let world = World::new(handler).await;
    let fields = [("connection", "x-mine"), ("x-mine", "1"), ("te", "trailers"), ("proxy-authorization", "Basic eA==")];
    let got = send(&world, get("api.test", "/", &fields)).await;
    assert!(["alt-svc", "x-hop", "connection"].iter().all(|name| !got.headers.contains_key(*name)), "{got:?}");
    let received = &world.upstream.received()[0].headers;
    assert!(["connection", "x-mine", "proxy-authorization"].iter().all(|name| !received.contains_key(*name)));
}

#[tokio::test]
async fn as_many_connections_are_kept_as_there_are_requests_at_once() {
    const AT_ONCE: usize = 32;
    // Nobody is answered before all have asked.
    let all = Arc::new(Barrier::new(AT_ONCE));
    let handler: Handler = Arc::new(move |_, _| {
        let all = all.clone();
        Box::pin(async move {
            all.wait().await;
            text("ok")
        })
    });
    let world = World::new(handler).await;
    let mut senders = Vec::new();
    for _ in 0..AT_ONCE {
        senders.push(connect(&world, world.tls, "api.test").await);
    }
    for _ in 0..3 {
        let asked = senders.iter_mut().map(async |sender| {
            sender.ready().await.unwrap();
            read(sender.send_request(get("api.test", "/", &[])).await.unwrap()).await.status
        });
        assert_eq!(join_all(asked).await, [200; AT_ONCE]);
    }
    assert_eq!((world.upstream.received().len(), world.upstream.connections()), (3 * AT_ONCE, AT_ONCE));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_when_that_does_no_harm() {
    let count = Arc::new(AtomicUsize::new(0));
    // Every second request finds the server hanging up.
    let handler = whole(move |_, _| {
        let mut reply = text("ok");
        if count.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
            *reply.status_mut() = StatusCode::from_u16(HANG_UP).unwrap();
        }
        reply
    });
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let post = Request::post("/").header("host", "api.test").body(Full::from("x")).unwrap();
    for (request, status) in [(get("api.test", "/", &[]), 200), (get("api.test", "/", &[]), 200), (post, 502)] {
        sender.ready().await.unwrap();
        assert_eq!(read(sender.send_request(request).await.unwrap()).await.status, status);
    }
    assert_eq!(world.upstream.received().len(), 4);
}

#[tokio::test]
async fn replies_without_a_body_keep_what_they_say_about_it() {
    let handler = whole(|head, _| match head.method {
        Method::HEAD => Response::builder().header("content-length", "12").body(Empty::new().boxed_unsync()).unwrap(),
        _ => Response::builder().status(204).body(Empty::new().boxed_unsync()).unwrap(),
    });
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    for (method, status, length) in [("HEAD", 200, Some("12")), ("DELETE", 204, None), ("HEAD", 200, Some("12"))] {
        sender.ready().await.unwrap();
        let request = Request::builder().method(method).uri("/").header("host", "api.test");
        let got = read(sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()).await;
        let said = got.headers.get("content-length").map(|v| v.to_str().unwrap());
        assert_eq!((got.status, said), (status, length), "{method}");
    }
    assert_eq!(world.upstream.connections(), 1);
}

#[tokio::test]
async fn bodies_are_framed_as_they_came() {
    let world = World::new(whole(|head, body| {
        let framing = if head.headers.contains_key("transfer-encoding") { "chunked" } else { "length" };
        text([framing.as_bytes(), b" ", body].concat())
    }))
    .await;
    let close = "Host: api.test\r\nConnection: close";
    for (request, reply) in [
        (
            format!("GET / HTTP/1.1\r\n{close}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: 1\r\n\r\n"),
            "chunked hi",
        ),
        (format!("POST / HTTP/1.1\r\n{close}\r\nContent-Length: 2\r\n\r\nhi"), "length hi"),
        (format!("POST / HTTP/1.1\r\n{close}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"), "length hi"),
        (format!("POST / HTTP/1.1\r\n{close}\r\nContent-Length: 0\r\n\r\n"), "length "),
        (format!("POST / HTTP/1.0\r\n{close}\r\nContent-Length: 2\r\n\r\nhi"), "length hi"),
    ] {
        let got = raw_tls(&world, &request).await;
        assert!(got.ends_with(reply), "{request}: {got}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_speak_http_is_an_error_of_its_own() {
    let handler = whole(|_, _| {
        let mut reply = text("no");
        *reply.status_mut() = StatusCode::from_u16(HANG_UP).unwrap();
        reply
    });
    let world = World::new(handler).await;
    send(&world, get("api.test", "/", &[])).await.refused(502, "api.test: the host ended the connection");
}

#[tokio::test]
async fn closing_ends_everything() {
    let never: Handler = Arc::new(|_, _| Box::pin(futures::future::pending()));
    let world = World::new(never).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let waiting = tokio::spawn(async move { sender.send_request(get("api.test", "/", &[])).await });
    while world.upstream.received().is_empty() {
        tokio::task::yield_now().await;
    }
    let (tls, proxy) = (world.tls, world.proxy);
    world.egress.close().await;
    assert!(waiting.await.unwrap().is_err());
    assert!(TcpStream::connect(tls).await.is_err() && TcpStream::connect(proxy).await.is_err());
}

#[tokio::test]
async fn refusals_are_bounded() {
    let world = World::new(ok()).await;
    for i in 0..100 {
        let got = proxy_connect(&world, &format!("h{i}.test:443")).await.err().unwrap();
        assert_eq!(got.status, 403);
    }
    let told = world.seen.refusals().len();
    let sentences = world.egress.close().await;
    assert_eq!((told, sentences.len()), (65, 65), "the last one told is that there are more");
    assert_eq!(sentences[64], "and 36 more");
}

/// A flood of lesser refusals must not keep the one that matters out of the record.
#[tokio::test]
async fn noise_hides_no_stray_placeholder() {
    let world = World::new(ok()).await;
    for i in 0..100 {
        names::ask(&world, &format!("n{i}.test")).await;
        assert_eq!(proxy_connect(&world, &format!("h{i}.test:443")).await.err().unwrap().status, 403);
    }
    send(&world, get("api.test", "/", &[("x-key", &world.other_placeholder)])).await.refused(403, "not bound");
    let last = world.seen.refusals().pop().unwrap();
    assert!(last.0 == "api.test" && last.1.contains("(OTHER)"), "{last:?}");
    assert!(world.egress.close().await[0].contains("(OTHER)"), "it is told first, too");
}
