//! The one upstream of every side: a provider that answers whoever brings the real key, over HTTP and over TLS.

use crate::load::SILENT;
use e2e::certificate::Certificate;
use futures::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Events of a stream, the last one not counted.
const EVENTS: usize = 20;

/// Prints its addresses and the file in `dir` with the authority of its certificate, then serves for ever.
pub async fn serve(key: &'static str, dir: &Path) {
    let certificate = Certificate::new(&[crate::tls::NAME]);
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()));
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let places = [&http, &https].map(|listener| listener.local_addr().unwrap());
    println!("{}", serde_json::json!({ "http": places[0], "https": places[1], "ca": certificate.write_ca(dir) }));
    let wanted: &'static str = format!("Bearer {key}").leak();
    loop {
        tokio::select! {
            stream = accept(&http) => { tokio::spawn(connection(stream, wanted)); }
            stream = accept(&https) => {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, wanted).await;
                    }
                });
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, wanted: &'static str) {
    let service = service_fn(move |request| answer(request, wanted));
    // A side that ends closes its connections as it likes.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    wanted: &str,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let key = request.headers().get("authorization").and_then(|value| value.to_str().ok()) == Some(wanted);
    let asked = request.into_body().collect().await?.to_bytes();
    if !key {
        return Ok(Response::builder().status(401).body(Full::default().boxed()).unwrap());
    }
    let says = |text: &str| asked.windows(text.len()).any(|part| part == text.as_bytes());
    // Some sides write the call anew, with a space.
    if !says("\"stream\":true") && !says("\"stream\": true") {
        let text = "It is a sunny day in Lisbon, with a light breeze from the river. ".repeat(6);
        let body = format!(
            "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":17,\"completion_tokens\":90,\"total_tokens\":107}}}}"
        );
        let reply = Response::builder().header("content-type", "application/json");
        return Ok(reply.body(Full::new(Bytes::from(body)).boxed()).unwrap());
    }
    let reply = Response::builder().header("content-type", "text/event-stream");
    let events = stream::iter((0..=EVENTS).map(event));
    let body = if says(SILENT) {
        BodyExt::boxed(StreamBody::new(events.take(1).chain(stream::pending())))
    } else {
        BodyExt::boxed(StreamBody::new(events))
    };
    Ok(reply.body(body).unwrap())
}

fn event(n: usize) -> Result<Frame<Bytes>, Infallible> {
    let text = match n {
        EVENTS => "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":20,\"total_tokens\":37}}\n\ndata: [DONE]\n\n".to_owned(),
        _ => format!("data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}}}}]}}\n\n"),
    };
    Ok(Frame::data(Bytes::from(text)))
}
