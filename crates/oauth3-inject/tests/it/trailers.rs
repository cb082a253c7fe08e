//! Fields that come after a body.

use crate::client::{connect, raw_tls};
use crate::upstream::Handler;
use crate::world::{KEY, World};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

type Pieces = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn with_trailers(data: &str, trailers: &[(&'static str, &str)]) -> Pieces {
    let fields: HeaderMap = trailers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let frames = vec![Ok(Frame::data(Bytes::from(data.to_owned()))), Ok(Frame::trailers(fields))];
    StreamBody::new(futures::stream::iter(frames))
}

/// Sends the key back in trailers, and keeps the ones that came.
fn reflecting(came: Arc<Mutex<Option<HeaderMap>>>) -> Handler {
    Arc::new(move |head, body| {
        let came = Arc::clone(&came);
        Box::pin(async move {
            *came.lock().unwrap() = body.collect().await.ok().and_then(|body| body.trailers().cloned());
            let key = head.headers.get("x-key").map_or("none", |key| key.to_str().unwrap());
            let body = with_trailers("data", &[("grpc-status", "0"), ("x-key", key), ("x-other", "plain")]);
            Response::builder().header("trailer", "grpc-status, x-key, x-other").body(body.boxed_unsync()).unwrap()
        })
    })
}

fn post(world: &World, trailers: &[(&'static str, &str)]) -> Request<Pieces> {
    let builder = Request::post("/").header("host", "api.test").header("te", "trailers");
    let builder = builder.header("x-key", &world.placeholder).header("trailer", "x-sum, authorization");
    builder.body(with_trailers("data", trailers)).unwrap()
}

#[tokio::test]
async fn trailers_pass_both_ways_and_are_scrubbed() {
    let came = Arc::<Mutex<Option<HeaderMap>>>::default();
    let world = World::with(reflecting(came.clone()), &[KEY], true).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let request = post(&world, &[("x-sum", "1"), ("authorization", "Bearer x")]);
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-key"], world.placeholder.as_str());
    assert_eq!(body.to_bytes(), "data");
    let came = came.lock().unwrap().clone().unwrap();
    assert_eq!(came["x-sum"], "1");
    assert!(!came.contains_key("authorization"), "{came:?}");
    // Whoever does not say that it can read them gets none.
    let request =
        format!("GET / HTTP/1.1\r\nHost: api.test\r\nx-key: {}\r\nConnection: close\r\n\r\n", world.placeholder);
    let reply = raw_tls(&world, &request).await;
    assert!(reply.ends_with("data\r\n0\r\n\r\n"), "{reply}");
}

#[tokio::test]
async fn a_placeholder_in_a_trailer_toward_another_host_ends_the_request() {
    let world = World::new(reflecting(Arc::default())).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    let reply = sender.send_request(post(&world, &[("x-sum", &world.other_placeholder)])).await.unwrap();
    assert_eq!(reply.status(), 403);
    assert_eq!(world.seen.refusals().len(), 1);
}
