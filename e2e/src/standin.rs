//! A real HTTPS server on loopback that stands in for an API: remembers what it was sent, answers as told.

use crate::certificate::Certificate;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// One field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// In the extensions of a reply: after its body more and more comes, a byte at a time, and no end.
#[derive(Debug, Clone, Copy)]
pub struct Drip;

/// Between two bytes of such a body.
const DRIP_PAUSE: Duration = Duration::from_millis(100);

type Answer = dyn Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync;

/// A running stand-in.
pub struct Standin {
    /// Where it listens.
    pub address: SocketAddr,
    certificate: Certificate,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Standin {
    /// Stands in for `name`, answering as `answer` says.
    pub async fn start(name: &str, answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self::start_for(&[name], answer).await
    }

    /// Stands in for all of `names`.
    pub async fn start_for(
        names: &[&str],
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let certificate = Certificate::new(names);
        let config = certificate.server_config();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), seen.clone(), Arc::new(answer)));
        Self { address, certificate, seen }
    }

    /// Stands in for `name`, answering each request with bytes as they are, and hanging up after them.
    pub async fn raw(name: &str, answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let certificate = Certificate::new(&[name]);
        let tls = TlsAcceptor::from(Arc::new(certificate.server_config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(accept_raw(listener, tls, seen.clone(), Arc::new(answer)));
        Self { address, certificate, seen }
    }

    /// Answers JSON that echoes the `authorization` field.
    pub async fn echo(name: &str) -> Self {
        Self::start(name, |seen| {
            let echo = seen.header("authorization").unwrap_or("");
            let body = serde_json::json!({ "ok": true, "echo": echo, "path": seen.target });
            Response::builder()
                .header("content-type", "application/json")
                .body(Full::from(body.to_string()))
                .expect("reply")
        })
        .await
    }

    /// Everything that arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Writes the authority's certificate into `dir` and gives its path.
    pub fn write_ca(&self, dir: &Path) -> PathBuf {
        self.certificate.write_ca(dir)
    }

    /// An `[egress]` section that leads its names here and trusts the authority.
    pub fn egress(&self, dir: &Path) -> String {
        self.certificate.egress(dir, self.address)
    }
}

type RawAnswer = dyn Fn(&Seen) -> Vec<u8> + Send + Sync;

/// Reads heads only: whoever asks here sends no bodies.
async fn accept_raw(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<RawAnswer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(mut stream) = tls.accept(stream).await else { return };
            let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
                    _ => return,
                }
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let mut lines = text.trim_end().lines();
            let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
            let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
            let one = Seen {
                method: first.next().unwrap_or_default(),
                target: first.next().unwrap_or_default(),
                headers: lines.filter_map(field).collect(),
                body: Vec::new(),
            };
            let reply = answer(&one);
            seen.lock().expect("not poisoned").push(one);
            let _ = stream.write_all(&reply).await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<Answer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let (seen, answer) = (seen.clone(), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
                    let one = Seen {
                        method: head.method.to_string(),
                        target: head.uri.path_and_query().map_or("/".into(), ToString::to_string),
                        headers: head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
                        body: body.collect().await?.to_bytes().to_vec(),
                    };
                    let reply = answer(&one);
                    seen.lock().expect("not poisoned").push(one);
                    Ok::<_, hyper::Error>(with_drip(reply))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn with_drip(reply: Response<Full<Bytes>>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    if reply.extensions().get::<Drip>().is_none() {
        return reply.map(BodyExt::boxed_unsync);
    }
    reply.map(|body| {
        let more = futures::stream::unfold((), async |()| {
            tokio::time::sleep(DRIP_PAUSE).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        BodyExt::boxed_unsync(StreamBody::new(http_body_util::BodyStream::new(body).chain(more.boxed())))
    })
}
