//! HTTP for `fetch`: plain HTTP/1.1 to the egress on loopback, in absolute form. The egress decides, speaks TLS to the
//! real host and scrubs; there is no other way out of the sandbox.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use oauth3_core::ProxyKey;
use tokio::net::TcpStream;

/// Idle connections that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Headers of a response at most.
const RESPONSE_HEADERS_MAX: usize = 256;

/// A finished operation.
pub(super) struct Completion {
    pub(super) id: u32,
    pub(super) outcome: Outcome,
}

/// How an operation ended.
pub(super) enum Outcome {
    /// A response has begun.
    Head { head: Box<http::response::Parts>, body: Incoming },
    /// The next bytes of a body, and the body itself for the rest.
    Chunk { resource: u32, body: Incoming, bytes: Bytes },
    /// The body is at its end.
    End,
    /// What to tell the program.
    Failed(String),
}

/// One request as the prelude describes it.
pub(super) struct Exchange {
    pub(super) method: String,
    pub(super) url: String,
    /// Names and values in turn; values hold one byte per character.
    pub(super) headers: Vec<String>,
    pub(super) body: Option<Vec<u8>>,
}

/// Connections that wait for a request, with the origin that they served.
type Idle = Arc<Mutex<Vec<(String, SendRequest<Full<Bytes>>)>>>;

/// The client. It connects when the first request is made.
#[derive(Default)]
pub(super) struct Net {
    proxy_port: u16,
    proxy_key: Option<ProxyKey>,
    idle: Idle,
    bodies: HashMap<u32, Incoming>,
    last_resource: u32,
}

impl Net {
    pub(super) fn new(proxy_port: u16, proxy_key: Option<ProxyKey>) -> Self {
        Self { proxy_port, proxy_key, idle: Idle::default(), bodies: HashMap::new(), last_resource: 0 }
    }

    /// Sends one request and waits for the head of its response.
    pub(super) fn fetch(&self, exchange: Exchange) -> impl Future<Output = Outcome> + Send + use<> {
        let (port, key, idle) = (self.proxy_port, self.proxy_key, Arc::clone(&self.idle));
        async move {
            match send(port, key, &idle, exchange).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    Outcome::Head { head: Box::new(head), body }
                }
                Err(message) => Outcome::Failed(message),
            }
        }
    }

    /// Keeps the body of a response under a number.
    pub(super) fn keep(&mut self, body: Incoming) -> u32 {
        self.last_resource = self.last_resource.wrapping_add(1);
        self.bodies.insert(self.last_resource, body);
        self.last_resource
    }

    /// Reads on in a body. It is away from its number until [`Net::put_back`].
    pub(super) fn read(&mut self, resource: u32) -> impl Future<Output = Outcome> + Send + use<> {
        let body = self.bodies.remove(&resource);
        async move {
            let Some(mut body) = body else { return Outcome::End };
            loop {
                match body.frame().await {
                    None => return Outcome::End,
                    Some(Err(error)) => {
                        return Outcome::Failed(format!("error reading a body from connection: {}", reason(&error)));
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Outcome::Chunk { resource, body, bytes },
                        _ => {}
                    },
                }
            }
        }
    }

    /// Takes a body back between two reads.
    pub(super) fn put_back(&mut self, resource: u32, body: Incoming) {
        self.bodies.insert(resource, body);
    }

    /// Drops a body and, when it was not at its end, its connection.
    pub(super) fn close(&mut self, resource: u32) {
        self.bodies.remove(&resource);
    }
}

/// Names and values in turn, one character per byte.
pub(super) fn flat_headers(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    headers.iter().flat_map(|(name, value)| [name.as_str().to_owned(), text(value)]).collect()
}

async fn send(
    port: u16,
    key: Option<ProxyKey>,
    idle: &Idle,
    exchange: Exchange,
) -> Result<http::Response<Incoming>, String> {
    let url = exchange.url.clone();
    let fail = |cause: String| format!("error sending request for url ({url}): {cause}");
    let (origin, mut request) = request(exchange).map_err(&fail)?;
    if let Some(key) = key.and_then(|key| HeaderValue::try_from(key.authorization()).ok()) {
        request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, key);
    }
    // Lets connections that the egress closed meanwhile notice it.
    tokio::task::yield_now().await;
    loop {
        let (mut sender, reused) = match take_idle(idle, &origin) {
            Some(sender) => (sender, true),
            None => (connect(port).await.map_err(&fail)?, false),
        };
        match sender.try_send_request(request.clone()).await {
            Ok(response) => {
                put_idle(idle, origin, sender);
                return Ok(response);
            }
            // A connection that was closed while it was idle. Try the next one when nothing was sent or when it does
            // no harm to send it twice.
            Err(mut error) => {
                let harmless = error.take_message().is_some() || request.method().is_idempotent();
                if !(reused && harmless) {
                    return Err(fail(reason(error.error())));
                }
            }
        }
    }
}

fn request(exchange: Exchange) -> Result<(String, Request<Full<Bytes>>), String> {
    let uri: Uri = exchange.url.parse().map_err(|_| "the URL is not usable".to_owned())?;
    let authority = uri.authority().map(ToString::to_string).ok_or("the URL has no host")?;
    let origin = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
    let method = Method::from_bytes(exchange.method.as_bytes()).map_err(|_| "bad method".to_owned())?;
    let mut request = Request::new(Full::new(Bytes::from(exchange.body.unwrap_or_default())));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::from_str(&authority).map_err(|_| "bad host".to_owned())?);
    let mut pairs = exchange.headers.iter();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("bad header name {name:?}"))?;
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        headers.append(&name, value.ok_or_else(|| format!("bad value of header {name}"))?);
    }
    Ok((origin, request))
}

fn take_idle(idle: &Idle, origin: &str) -> Option<SendRequest<Full<Bytes>>> {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    idle.retain(|(_, sender)| !sender.is_closed());
    let index = idle.iter().position(|(served, sender)| served == origin && sender.is_ready())?;
    Some(idle.swap_remove(index).1)
}

fn put_idle(idle: &Idle, origin: String, sender: SendRequest<Full<Bytes>>) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() >= IDLE_CONNECTIONS_MAX {
        idle.remove(0);
    }
    idle.push((origin, sender));
}

#[expect(clippy::disallowed_methods, reason = "the egress on loopback is all that the sandbox can reach")]
async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>, String> {
    let refused = |error: std::io::Error| format!("the network of this run is not reachable: {error}");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let (sender, connection) = http1::Builder::new()
        .max_headers(RESPONSE_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| reason(&error))?;
    tokio::spawn(async move {
        // How a connection ends shows in the requests that it carries.
        let _ended = connection.await;
    });
    Ok(sender)
}

/// An error with its innermost cause, in words for the author of the code.
fn reason(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        return "connection closed before message completed".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
