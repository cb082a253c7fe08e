//! Bodies pass as they come.

use crate::client::{connect, get, raw_tls, read};
use crate::upstream::{Handler, text};
use crate::world::{KEY, World};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

type Piece = Result<Frame<Bytes>, Infallible>;

fn piece(text: impl Into<Bytes>) -> Piece {
    Ok(Frame::data(text.into()))
}

/// Answers with pieces that the test sends one by one.
fn by_piece(fields: &'static [(&str, &str)]) -> (mpsc::Sender<Piece>, Handler) {
    let (sender, receiver) = mpsc::channel(0);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let handler: Handler = Arc::new(move |_, _| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        let reply = fields.iter().fold(Response::builder(), |reply, (name, value)| reply.header(*name, *value));
        Box::pin(async move { reply.body(StreamBody::new(receiver).boxed_unsync()).unwrap() })
    });
    (sender, handler)
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (mut events, handler) = by_piece(&[("content-type", "text/event-stream")]);
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let reply = sender.send_request(get("api.test", "/", &[("x-key", &world.placeholder)])).await.unwrap();
    let mut body = reply.into_body();
    for i in 0..3 {
        let event = format!("data: {i}\n\n");
        events.send(piece(event.clone())).await.unwrap();
        let mut got = Vec::new();
        while got.len() < event.len() {
            got.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
        }
        assert_eq!(got, event.as_bytes());
    }
    // A value in two pieces is held back until it is clear what it is.
    let (one, two) = KEY.split_at(10);
    events.send(piece(format!("data: {one}"))).await.unwrap();
    events.send(piece(format!("{two}\n\n"))).await.unwrap();
    drop(events);
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, format!("data: {}\n\n", world.placeholder));
}

#[tokio::test]
async fn a_body_goes_up_while_it_is_made() {
    let (arrived, mut arrivals) = mpsc::unbounded::<usize>();
    let handler: Handler = Arc::new(move |_, mut body| {
        let arrived = arrived.clone();
        Box::pin(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let _ = arrived.unbounded_send(frame.data_ref().map_or(0, Bytes::len));
            }
            text("done")
        })
    });
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let (mut pieces, receiver) = mpsc::channel::<Piece>(0);
    let request = Request::post("/").header("host", "api.test").body(StreamBody::new(receiver)).unwrap();
    let reply = tokio::spawn(async move { read(sender.send_request(request).await.unwrap()).await });
    for length in [1_usize, 20, 300] {
        pieces.send(piece(vec![b'x'; length])).await.unwrap();
        let mut got = 0;
        while got < length {
            got += arrivals.next().await.unwrap();
        }
        assert_eq!(got, length);
    }
    drop(pieces);
    assert_eq!(reply.await.unwrap().text(), "done");
}

/// Pieces of a big body, and how many of them each side may run ahead of the other.
const PIECES: usize = 640;
const PIECE_BYTES: usize = 64 << 10;
/// What fits into the sockets, TLS and buffers between the two ends: far less than the whole.
const MAX_AHEAD_BYTES: usize = 24 << 20;

#[tokio::test]
async fn a_big_body_is_never_held_whole() {
    let made = Arc::new(Mutex::new(0_usize));
    let counter = made.clone();
    let handler: Handler = Arc::new(move |_, _| {
        let counter = counter.clone();
        let pieces = futures::stream::iter(0..PIECES).map(move |_| {
            *counter.lock().unwrap() += PIECE_BYTES;
            piece(vec![b'a'; PIECE_BYTES])
        });
        Box::pin(async move { Response::new(StreamBody::new(pieces).boxed_unsync()) })
    });
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let mut body = sender.send_request(get("api.test", "/", &[])).await.unwrap().into_body();
    let (mut taken, mut furthest) = (0, 0);
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().data_ref().map_or(0, Bytes::len);
        furthest = furthest.max(*made.lock().unwrap() - taken);
    }
    assert_eq!(taken, PIECES * PIECE_BYTES);
    assert!(furthest < MAX_AHEAD_BYTES, "{furthest} bytes were held");
}

#[tokio::test]
async fn a_reply_that_breaks_off_breaks_off() {
    let (mut pieces, handler) = by_piece(&[("content-length", "8")]);
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let reply = sender.send_request(get("api.test", "/", &[]));
    pieces.send(piece("hal\n")).await.unwrap();
    let reply = reply.await.unwrap();
    assert_eq!(reply.headers()["content-length"], "8");
    let mut body = reply.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hal\n");
    drop(pieces);
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn a_placeholder_late_in_a_stream_ends_it() {
    let (arrived, mut arrivals) = mpsc::unbounded::<Vec<u8>>();
    let handler: Handler = Arc::new(move |_, mut body| {
        let arrived = arrived.clone();
        Box::pin(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let _ = arrived.unbounded_send(frame.into_data().unwrap().to_vec());
            }
            text("done")
        })
    });
    let world = World::new(handler).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let (mut pieces, receiver) = mpsc::channel::<Piece>(0);
    let request = Request::post("/").header("host", "api.test").body(StreamBody::new(receiver)).unwrap();
    let reply = tokio::spawn(async move { read(sender.send_request(request).await.unwrap()).await });
    pieces.send(piece("begin ")).await.unwrap();
    assert_eq!(arrivals.next().await.unwrap(), b"begin ");
    let (one, two) = world.other_placeholder.split_at(7);
    pieces.send(piece(one.to_owned())).await.unwrap();
    assert_eq!(arrivals.next().await.unwrap(), one.as_bytes());
    pieces.send(piece(two.to_owned())).await.unwrap();
    drop(pieces);
    reply.await.unwrap().refused(403, "(OTHER)");
    assert_eq!(world.seen.refusals()[0].0, "api.test");
    assert!(arrivals.try_recv().is_err(), "the rest never left");
}

#[tokio::test]
async fn code_that_writes_before_it_reads_sees_why_it_was_refused() {
    let world = World::new(Arc::new(|_, _| Box::pin(async { text("ok") }))).await;
    let length = 8 << 20;
    let (ph, body) = (&world.other_placeholder, "x".repeat(length));
    let close = "Connection: close";
    let head = format!("POST / HTTP/1.1\r\nHost: api.test\r\n{close}\r\nX: {ph}\r\nContent-Length: {length}\r\n\r\n");
    let reply = raw_tls(&world, &format!("{head}{body}")).await;
    assert!(reply.starts_with("HTTP/1.1 403 ") && reply.contains("not bound to this host"), "{reply}");
}
