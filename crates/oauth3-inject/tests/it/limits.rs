//! What a run may send, receive and ask for, and what it is told when that is used up.

use crate::client::{connect, get, raw_tls, read, send};
use crate::upstream::{Handler, text, whole};
use crate::world::{KEY, OTHER_KEY, World};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use oauth3_core::Limits;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MB: u64 = 1 << 20;
/// What may pass beyond the limit: pieces that were under way on both sides when it was reached.
const SLACK: u64 = MB;

async fn world(handler: Handler, limits: Limits) -> World {
    World::within(handler, &[KEY, OTHER_KEY], true, limits).await
}

fn chunk() -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))
}

fn endless() -> Handler {
    Arc::new(|_, _| Box::pin(async { Response::new(StreamBody::new(stream::repeat_with(chunk)).boxed_unsync()) }))
}

/// The one sentence that is audited, whatever was tried how often.
#[track_caller]
fn told_once(world: &World, part: &str) {
    let refusals = world.seen.refusals();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].1.contains(part), "{refusals:?}");
}

#[tokio::test]
async fn requests_beyond_the_limit_get_429_and_the_host_none_of_them() {
    let world = world(whole(|_, _| text("ok")), Limits { egress_requests: 2, ..Limits::STANDARD }).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    for _ in 0..2 {
        let reply = sender.send_request(get("api.test", "/", &[])).await.unwrap();
        assert_eq!(read(reply).await.status, 200);
    }
    for _ in 0..3 {
        let reply = sender.send_request(get("api.test", "/", &[("x-key", &world.placeholder)])).await.unwrap();
        read(reply).await.refused(429, "2 requests (limit egress_requests)");
    }
    send(&world, get("api.test", "/", &[])).await.refused(429, "egress_requests");
    assert_eq!(world.upstream.received().len(), 2);
    told_once(&world, "egress_requests");
    assert_eq!(world.egress.usage().egress_requests, 6);
}

#[tokio::test]
async fn a_reply_whose_head_is_too_large_is_refused_though_more_is_read_at_once() {
    let large = async |bytes: usize| {
        let handler = whole(move |_, _| {
            let mut reply = text("ok");
            reply.headers_mut().insert("x-large", HeaderValue::from_bytes(&vec![b'x'; bytes]).unwrap());
            reply
        });
        send(&world(handler, Limits::STANDARD).await, get("api.test", "/", &[])).await
    };
    assert_eq!(large(60 << 10).await.status, 200);
    large(66 << 10).await.refused(502, "its head is too large");
    large(300 << 10).await.refused(502, "its head is too large");
}

#[tokio::test]
async fn a_flood_of_reply_is_cut_and_what_comes_after_is_told_why() {
    let world = world(endless(), Limits { egress_mb: 1, ..Limits::STANDARD }).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let mut body = sender.send_request(get("api.test", "/", &[])).await.unwrap().into_body();
    let mut received = 0;
    let ended = loop {
        match body.frame().await {
            Some(Ok(frame)) => received += frame.data_ref().map_or(0, Bytes::len),
            other => break other,
        }
    };
    assert!(matches!(ended, Some(Err(_))), "it is cut, not ended");
    assert!((received as u64) < MB, "{received}");
    for _ in 0..2 {
        send(&world, get("api.test", "/", &[])).await.refused(429, "1 MB (limit egress_mb)");
    }
    assert_eq!(world.upstream.received().len(), 1);
    told_once(&world, "egress_mb");
    let used = world.egress.usage();
    assert!((MB..MB + SLACK).contains(&(used.egress_received_bytes + used.egress_sent_bytes)), "{used:?}");
}

#[tokio::test]
async fn a_flood_of_body_is_cut_before_the_host_has_much_more() {
    let arrived = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&arrived);
    let handler: Handler = Arc::new(move |_, mut body| {
        let counter = Arc::clone(&counter);
        Box::pin(async move {
            while let Some(Ok(frame)) = body.frame().await {
                counter.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
            }
            text("never")
        })
    });
    let world = world(handler, Limits { egress_mb: 1, ..Limits::STANDARD }).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let body = StreamBody::new(stream::repeat_with(chunk));
    let sent = sender.send_request(Request::post("/").header("host", "api.test").body(body).unwrap()).await;
    assert!(sent.is_err(), "{sent:?}");
    send(&world, get("api.test", "/", &[])).await.refused(429, "egress_mb");
    assert!((arrived.load(Ordering::SeqCst) as u64) < MB + SLACK);
    told_once(&world, "egress_mb");
}

/// Nor by connections that never ask for anything.
#[tokio::test]
async fn handshakes_count_and_end_when_even_the_reserve_is_used() {
    let world = world(whole(|_, _| text("ok")), Limits { egress_mb: 1, ..Limits::STANDARD }).await;
    let big = Request::post("/").header("host", "api.test").body(Full::new(Bytes::from(vec![b'x'; 2 << 20]))).unwrap();
    let mut sender = connect(&world, world.tls, "api.test").await;
    assert!(sender.send_request(big).await.is_err());
    let last = "GET / HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n";
    let noise = "GET / HTTP/1.1\r\nhost: api.test\r\n\r\n".repeat(64) + last;
    let mut refused = 0;
    loop {
        // A handshake that is cut is the end that this waits for.
        let stream = tokio::net::TcpStream::connect(world.tls).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(crate::client::tls_config(
            world.egress.ca_pem(),
            true,
            &["http/1.1"],
        )));
        let Ok(stream) = connector.connect("api.test".try_into().unwrap(), stream).await else { break };
        refused += crate::client::raw(stream, &noise).await.matches("HTTP/1.1 429").count();
        assert!(refused < 10_000);
    }
    assert!(refused > 0);
    let used = world.egress.usage();
    assert!(used.egress_received_bytes + used.egress_sent_bytes < 2 * MB + SLACK, "{used:?}");
    told_once(&world, "egress_mb");
}

#[tokio::test]
async fn what_a_run_used_is_known() {
    let world = world(whole(|_, body| text(body.to_vec())), Limits::STANDARD).await;
    let before = world.egress.usage();
    assert_eq!((before.egress_sent_bytes, before.egress_requests), (0, 0));
    let reply = raw_tls(
        &world,
        &format!(
            "POST / HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\ncontent-length: 5000\r\n\r\n{}",
            "y".repeat(5000)
        ),
    )
    .await;
    assert!(reply.ends_with("yyyy"), "{reply}");
    let used = world.egress.usage();
    assert_eq!(used.egress_requests, 1);
    for bytes in [used.egress_sent_bytes, used.egress_received_bytes] {
        assert!((5_000..20_000).contains(&bytes), "{used:?}");
    }
}
