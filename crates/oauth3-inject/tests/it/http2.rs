//! HTTP/2 toward the code, toward the host, and both.

use crate::client::{connect, connect_http2, proxy_connect, read, speak_http2, tls_offering};
use crate::upstream::{Handler, Upstream, text, whole};
use crate::world::{KEY, World};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HTTP2: &[&str] = &["h2", "http/1.1"];
const HTTP1: &[&str] = &["http/1.1"];

/// Answers with the body, and with the key in a field.
fn echo() -> Handler {
    whole(|head, body| {
        let mut reply = text(body.to_vec());
        if let Some(key) = head.headers.get("x-key") {
            reply.headers_mut().insert("x-echo", key.clone());
        }
        reply
    })
}

fn post(world: &World, uri: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(uri)
        .header("x-key", &world.placeholder)
        .header("te", "trailers")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn each_side_speaks_its_own_version() {
    for (offers, out) in [(HTTP1, Version::HTTP_11), (HTTP2, Version::HTTP_2)] {
        for http2 in [true, false] {
            let world = World::offering(offers, echo()).await;
            let got = if http2 {
                let mut sender = connect_http2(&world, world.tls, "api.test").await;
                read(sender.send_request(post(&world, "https://api.test/a?b=c", KEY)).await.unwrap()).await
            } else {
                let mut sender = connect(&world, world.tls, "api.test").await;
                let mut request = post(&world, "/a?b=c", KEY);
                request.headers_mut().insert("host", "api.test".parse().unwrap());
                request.headers_mut().insert("connection", "te".parse().unwrap());
                read(sender.send_request(request).await.unwrap()).await
            };
            assert_eq!((got.status, got.text()), (200, world.placeholder.clone()), "{http2} {out:?}");
            assert_eq!(got.headers["x-echo"], world.placeholder, "scrubbed");
            let received = &world.upstream.received()[0];
            assert_eq!(received.version, out);
            assert_eq!(received.headers["x-key"], KEY);
            assert_eq!(received.headers["cookie"], "a=1; b=2");
            assert_eq!(received.headers["content-length"], KEY.len().to_string().as_str());
            let (line, host) = match out {
                Version::HTTP_2 => ("POST https://api.test/a?b=c", None),
                _ => ("POST /a?b=c", Some("api.test")),
            };
            assert_eq!(received.line, line);
            let field = |name: &str| received.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!((field("host"), field("te"), field("connection")), (host, Some("trailers"), None));
        }
    }
}

#[tokio::test]
async fn many_requests_at_once_share_one_connection_to_the_host_but_never_two_hosts() {
    let world = World::offering(HTTP2, echo()).await;
    let sender = connect_http2(&world, world.tls, "api.test").await;
    let all = (0..50).map(|i| {
        let (mut sender, request) = (sender.clone(), post(&world, "https://api.test/", &i.to_string()));
        async move { read(sender.send_request(request).await.unwrap()).await.text() }
    });
    let mut got = futures::future::join_all(all).await;
    got.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(got, (0..50).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(world.upstream.connections(), 1);
    // Its certificate is good for both names; the connection is not.
    let mut other = connect_http2(&world, world.tls_other, "other.test").await;
    let request = Request::get("https://other.test:8443/").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(read(other.send_request(request).await.unwrap()).await.status, 200);
    assert_eq!(world.upstream.connections(), 2);
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_open_another() {
    let (begun, mut beginnings) = mpsc::unbounded::<()>();
    let never: Handler = Arc::new(move |_, _| {
        let _ = begun.unbounded_send(());
        Box::pin(futures::future::pending())
    });
    let world = World::offering(HTTP2, never).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let sender = connect_http2(&world, world.tls, "api.test").await;
        for _ in 0..75 {
            let (mut sender, request) = (sender.clone(), post(&world, "https://api.test/", ""));
            waiting.push(tokio::spawn(async move { sender.send_request(request).await.is_ok() }));
        }
    }
    for _ in 0..150 {
        beginnings.next().await.unwrap();
    }
    assert_eq!(world.upstream.connections(), 2, "100 streams on one, 50 on the other");
    world.egress.close().await;
    for one in waiting {
        assert!(!one.await.unwrap(), "all end with the run");
    }
}

#[tokio::test]
async fn everything_must_name_the_same_host_in_http2_too() {
    let world = World::offering(HTTP2, echo()).await;
    for (uri, host) in [
        ("https://other.test:8443/", None),
        ("https://evil.test/", None),
        ("https://user@api.test/", None),
        ("https://api.test/", Some("evil.test")),
    ] {
        let mut sender = connect_http2(&world, world.tls, "api.test").await;
        let mut request = post(&world, uri, "");
        request.headers_mut().extend(host.map(|host| (http::header::HOST, host.parse().unwrap())));
        read(sender.send_request(request).await.unwrap()).await.refused(421, "another host");
    }
    let mut sender = connect_http2(&world, world.tls, "evil.test").await;
    let refused = read(sender.send_request(post(&world, "https://evil.test/", "")).await.unwrap()).await;
    refused.refused(403, "evil.test: this host");
    let mut sender = connect_http2(&world, world.tls, "api.test").await;
    let request = Request::get("http://api.test/").body(Full::<Bytes>::default()).unwrap();
    read(sender.send_request(request).await.unwrap()).await.refused(403, "use https");
    assert_eq!(world.upstream.connections(), 0);
}

#[tokio::test]
async fn connect_leads_to_http2_with_the_same_checks() {
    let world = World::offering(HTTP2, echo()).await;
    let tunnel = proxy_connect(&world, "api.test:443").await.ok().unwrap();
    let mut sender = speak_http2(&world, tunnel, "api.test").await;
    assert_eq!(read(sender.send_request(post(&world, "https://api.test/", "hi")).await.unwrap()).await.text(), "hi");
    assert_eq!(world.upstream.received()[0].headers["x-key"], KEY);
    let refused = sender.send_request(post(&world, "https://other.test:8443/", "")).await.unwrap();
    read(refused).await.refused(421, "another host");
    let tunnel = proxy_connect(&world, "api.test:443").await.ok().unwrap();
    let mut sender = speak_http2(&world, tunnel, "other.test").await;
    read(sender.send_request(post(&world, "https://other.test/", "")).await.unwrap()).await.refused(403, "not allowed");
}

#[tokio::test]
async fn a_placeholder_toward_another_host_ends_the_request_in_http2_too() {
    let world = World::offering(HTTP2, echo()).await;
    let mut sender = connect_http2(&world, world.tls, "api.test").await;
    let (ph, body) = (&world.other_placeholder, "x".repeat(100_000));
    let requests = [
        Request::get("https://api.test/")
            .header("cookie", "a=1")
            .header("cookie", format!("b={ph}"))
            .body(Full::default()),
        Request::get(format!("https://api.test/{ph}")).body(Full::default()),
        Request::post("https://api.test/").body(Full::from(format!("{body}{ph}"))),
    ];
    for request in requests {
        read(sender.send_request(request.unwrap()).await.unwrap()).await.refused(403, "(OTHER)");
    }
    assert!(world.upstream.received().iter().all(|one| !one.line.contains(ph.as_str())));
}

type Piece = Result<Frame<Bytes>, std::io::Error>;

/// How much of a big body there is, and how far one end may run ahead of the other: windows, buffers and sockets.
const PIECES: usize = 640;
const PIECE_BYTES: usize = 64 << 10;
const MAX_AHEAD_BYTES: usize = 24 << 20;

#[tokio::test]
async fn big_bodies_stream_both_ways_and_are_never_held_whole() {
    for offers in [HTTP1, HTTP2] {
        let back: Handler = Arc::new(|_, body| {
            Box::pin(async move {
                let body = body.map_err(|_| -> Infallible { unreachable!("the code goes on to the end") });
                Response::new(body.boxed_unsync())
            })
        });
        // Without secrets, so that it is the carrying that takes the time and not the scrubbing.
        let world = World::before(Upstream::start(&["api.test"], offers, back).await, Vec::new(), true);
        let mut sender = connect_http2(&world, world.tls, "api.test").await;
        let made = Arc::new(Mutex::new(0_usize));
        let counter = made.clone();
        let pieces = futures::stream::iter(0..PIECES).map(move |_| -> Piece {
            *counter.lock().unwrap() += PIECE_BYTES;
            Ok(Frame::data(vec![b'a'; PIECE_BYTES].into()))
        });
        let request = Request::post("https://api.test/").body(StreamBody::new(pieces)).unwrap();
        let mut body = sender.send_request(request).await.unwrap().into_body();
        let (mut taken, mut furthest) = (0, 0);
        while let Some(frame) = body.frame().await {
            taken += frame.unwrap().data_ref().map_or(0, Bytes::len);
            furthest = furthest.max(*made.lock().unwrap() - taken);
        }
        assert_eq!(taken, PIECES * PIECE_BYTES);
        assert!(furthest < MAX_AHEAD_BYTES, "{furthest} bytes were held");
        let framing = world.upstream.received()[0].headers.get("transfer-encoding").cloned();
        assert_eq!(framing.is_some(), offers == HTTP1, "a body of unknown length goes out in chunks or frames");
    }
}

/// A body that is cut off must not look like a whole one on the other side, whatever the versions.
#[tokio::test]
async fn a_body_that_breaks_off_in_one_version_breaks_off_in_the_other() {
    for offers in [HTTP1, HTTP2] {
        let (tell, mut told) = mpsc::unbounded::<&'static str>();
        let handler: Handler = Arc::new(move |_, mut body| {
            let tell = tell.clone();
            Box::pin(async move {
                let end = loop {
                    match body.frame().await {
                        Some(Ok(_)) => tell.unbounded_send("piece").unwrap(),
                        Some(Err(_)) => break "broken",
                        None => break "whole",
                    }
                };
                let _ = tell.unbounded_send(end);
                text("")
            })
        });
        let world = World::offering(offers, handler).await;
        let mut sender = connect_http2(&world, world.tls, "api.test").await;
        let (mut pieces, receiver) = mpsc::channel::<Piece>(0);
        let request = Request::post("https://api.test/").body(StreamBody::new(receiver)).unwrap();
        let reply = tokio::spawn(async move { sender.send_request(request).await });
        pieces.send(Ok(Frame::data("piece".into()))).await.unwrap();
        assert_eq!(told.next().await, Some("piece"));
        pieces.send(Err(std::io::Error::other("cut"))).await.unwrap();
        assert_eq!(told.next().await, Some("broken"), "{offers:?}");
        assert!(reply.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_breaks_off_in_http2_too() {
    for offers in [HTTP1, HTTP2] {
        let handler: Handler = Arc::new(|_, _| {
            Box::pin(async {
                let pieces = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hal\n")))]);
                let broken = pieces.chain(futures::stream::pending());
                Response::builder().header("content-length", "8").body(StreamBody::new(broken).boxed_unsync()).unwrap()
            })
        });
        let world = World::offering(offers, handler).await;
        let mut sender = connect_http2(&world, world.tls, "api.test").await;
        let request = Request::get("https://api.test/").body(Full::<Bytes>::default()).unwrap();
        let mut body = sender.send_request(request).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hal\n");
        world.egress.close().await;
        assert!(body.frame().await.unwrap().is_err());
    }
}

/// Frames written by hand, for what no library would send.
mod by_hand {
    use super::{HTTP2, World, tls_offering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    /// Literal fields without indexing or Huffman codes (RFC 7541 §6.2.2).
    pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                out.push(text.len() as u8);
                out.extend(text.as_bytes());
            }
        }
        out
    }

    pub async fn open(world: &World) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(world.tls).await.unwrap();
        let mut stream = tls_offering(world, stream, "api.test", HTTP2).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        stream
    }

    /// The next frame that is not about the connection's state: kind, stream, payload. `None` when it hangs up.
    pub async fn next(stream: &mut TlsStream<TcpStream>) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.ok()?;
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) {
                return Some((head[3], id, payload));
            }
        }
    }
}

/// What a translation to HTTP/1.1 could turn into a second request, or two readers read differently (RFC 9113 §10.3).
#[tokio::test]
async fn what_could_be_smuggled_through_http2_never_leaves() {
    use by_hand::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, fields, frame, next, open};
    let good = [(":method", "POST"), (":scheme", "https"), (":authority", "api.test"), (":path", "/")];
    let with = |extra: &[(&'static str, &'static str)]| [&good[..], extra].concat();
    let instead =
        |name: &str, value: &'static str| good.map(|(n, v)| if n == name { (n, value) } else { (n, v) }).to_vec();
    let bad = [
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "x-key")]),
        with(&[("upgrade", "websocket"), ("connection", "upgrade")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "1")]),
        with(&[("x-line", "a\r\ntransfer-encoding: chunked")]),
        with(&[("x-nul", "a\0b")]),
        with(&[("x name", "1")]),
        with(&[("x-name\r\nhost", "evil.test")]),
        with(&[(":path", "/second")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        with(&[("content-length", "9")]),
        with(&[("content-length", "1, 4")]),
        with(&[("content-length", "+4")]),
        with(&[("host", "evil.test")]),
        with(&[("host", "api.test"), ("host", "api.test")]),
        instead(":method", "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\nGET"),
        instead(":path", "/ HTTP/1.1\r\nhost: evil.test"),
        instead(":path", "evil"),
        instead(":path", "*"),
        instead(":authority", "evil.test"),
        instead(":authority", "api.test@evil.test"),
        instead(":scheme", "http"),
        vec![(":method", "CONNECT"), (":authority", "evil.test:443")],
        vec![(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "evil.test")],
        [&[("x-first", "1")][..], &good].concat(),
    ];
    for offers in [HTTP1, HTTP2] {
        let world = World::offering(offers, echo()).await;
        for case in &bad {
            let mut stream = open(&world).await;
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(case))).await.unwrap();
            let _ = stream.write_all(&frame(0, END_STREAM, 1, b"body")).await;
            // A refusal of ours, a reset, or the end of the connection; `received` tells that it went no further.
            let (kind, ..) = next(&mut stream).await.unwrap_or((GOAWAY, 0, vec![]));
            assert!([HEADERS, RST_STREAM, GOAWAY].contains(&kind), "{case:?}");
            assert!(world.upstream.received().is_empty(), "{case:?}: {:?}", world.upstream.received());
        }
        let mut stream = open(&world).await;
        stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(&with(&[("content-length", "4")])))).await.unwrap();
        stream.write_all(&frame(0, END_STREAM, 1, b"body")).await.unwrap();
        assert_eq!(next(&mut stream).await.map(|(kind, id, _)| (kind, id)), Some((HEADERS, 1)), "the good one passes");
        assert_eq!(world.upstream.received().len(), 1);
    }
}

/// CVE-2023-44487, and heads without end (CVE-2024-27316): the connection that does it ends, the run goes on.
#[tokio::test]
async fn floods_of_resets_and_fields_end_their_own_connection_only() {
    use by_hand::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, fields, frame, open};
    const CONTINUATION: u8 = 9;
    let world = World::offering(HTTP2, echo()).await;
    let good = fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "api.test"), (":path", "/")]);
    let resets: Vec<u8> = (0..2000_u32)
        .flat_map(|i| {
            let id = 2 * i + 1;
            let begin = frame(HEADERS, END_HEADERS | END_STREAM, id, &good);
            [begin, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    let mut endless = frame(HEADERS, END_STREAM, 1, &good);
    for i in 0..4000 {
        let more = fields(&[(&format!("x-{i}"), &"y".repeat(100))]);
        endless.extend(frame(CONTINUATION, 0, 1, &more));
    }
    for flood in [resets, endless] {
        let mut stream = open(&world).await;
        let _ = stream.write_all(&flood).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let ended = rest.windows(9).any(|head| head[3] == GOAWAY && head[5..] == [0, 0, 0, 0]);
        assert!(ended || rest.len() < 100, "the connection ended, and said so when it could");
    }
    let mut sender = connect_http2(&world, world.tls, "api.test").await;
    assert_eq!(read(sender.send_request(post(&world, "https://api.test/", "hi")).await.unwrap()).await.text(), "hi");
    let _unused = TcpStream::connect(world.tls).await.unwrap();
}

#[tokio::test]
async fn too_many_fields_are_refused_both_ways() {
    let many = whole(|_, _| {
        let fields = (0..200).fold(Response::builder(), |reply, i| reply.header(format!("x-{i}"), "1"));
        fields.body(Full::<Bytes>::default().boxed_unsync()).unwrap()
    });
    let world = World::offering(HTTP2, many).await;
    let mut sender = connect_http2(&world, world.tls, "api.test").await;
    let request = (0..200).fold(Request::get("https://api.test/"), |request, i| request.header(format!("x-{i}"), "1"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    read(sender.send_request(request).await.unwrap()).await.refused(431, "too many fields");
    let reply = sender.send_request(post(&world, "https://api.test/", "")).await.unwrap();
    read(reply).await.refused(502, "its head is too large");
}
