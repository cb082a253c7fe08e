//! The one client and the one upstream of every side.

use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// Events of a stream.
const EVENTS: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Json,
    Sse,
}

/// A way to the upstream.
#[derive(Clone)]
pub struct Way {
    pub address: SocketAddr,
    /// Before `/chat/completions`.
    pub base: &'static str,
    pub token: String,
}

pub type Kept = SendRequest<Full<Bytes>>;

impl Way {
    pub async fn open(&self) -> Kept {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One call; the time until the first piece of its reply.
    pub async fn once(&self, kept: &mut Kept, shape: Shape) -> Duration {
        let body = match shape {
            Shape::Json => &b"{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"How is the weather in Lisbon today?\"}]}"[..],
            Shape::Sse => b"{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"How is the weather in Lisbon today?\"}]}",
        };
        let request = Request::post(format!("{}/chat/completions", self.base))
            .header("host", "bench")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from_static(body)))
            .unwrap();
        kept.ready().await.unwrap();
        let start = Instant::now();
        let reply = kept.send_request(request).await.unwrap();
        let status = reply.status();
        let (mut body, mut first, mut text) = (reply.into_body(), None, Vec::new());
        while let Some(frame) = body.frame().await {
            first.get_or_insert_with(|| start.elapsed());
            text.extend_from_slice(frame.unwrap().data_ref().map_or(&[][..], |data| data));
        }
        assert!(status == 200 && text.len() > 500, "{status}: {}", String::from_utf8_lossy(&text));
        first.unwrap()
    }
}

/// A provider that answers whoever brings the real key. Prints its address, then serves for ever.
pub async fn upstream(key: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", serde_json::json!({ "address": listener.local_addr().unwrap() }));
    let wanted: &'static str = format!("Bearer {key}").leak();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, wanted));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, wanted: &str) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let key = request.headers().get("authorization").and_then(|value| value.to_str().ok()) == Some(wanted);
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    if !key {
        return Ok(Response::builder().status(401).body(Full::default().boxed()).unwrap());
    }
    if !asked.windows(13).any(|part| part == b"\"stream\":true") {
        let text = "It is a sunny day in Lisbon, with a light breeze from the river. ".repeat(6);
        let body = format!(
            "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":17,\"completion_tokens\":90,\"total_tokens\":107}}}}"
        );
        let reply = Response::builder().header("content-type", "application/json");
        return Ok(reply.body(Full::new(Bytes::from(body)).boxed()).unwrap());
    }
    let event = |n: usize| {
        let text = match n {
            EVENTS => "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":20,\"total_tokens\":37}}\n\ndata: [DONE]\n\n".to_owned(),
            _ => format!("data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}}}}]}}\n\n"),
        };
        Ok::<_, Infallible>(Frame::data(Bytes::from(text)))
    };
    let body = StreamBody::new(stream::iter((0..=EVENTS).map(event))).boxed();
    Ok(Response::builder().header("content-type", "text/event-stream").body(body).unwrap())
}
