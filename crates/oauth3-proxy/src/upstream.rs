//! Requests to APIs over connections that are kept from call to call and shared by all agents: what tells agents apart
//! is in the request.

use crate::body::Outgoing;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, IDLE_CONNECTION, MAX_HEAD_BYTES, MAX_HEADERS, MAX_IDLE_CONNECTIONS, STREAM_WINDOW_BYTES,
};
use crate::line::{Connector, Kind, Line, chosen_http2};
use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use oauth3_core::Host;
use oauth3_dial::{DialError, Dialer, Protocols};
use oauth3_inject::Driven;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The port of HTTP in clear, which no Host field names.
const PLAIN_PORT: u16 = 80;

/// The clients: what one of them keeps is never used by the other.
pub(crate) struct Upstream {
    dialer: Dialer,
    /// For APIs of the catalog, at public addresses.
    pub(crate) public: ApiClient,
    /// For what the owner defined, wherever it is.
    pub(crate) owners: ApiClient,
}

/// Speaks with APIs.
pub(crate) struct ApiClient {
    pub(crate) connector: Connector,
    pool: Arc<Pool>,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// With TLS.
    pub(crate) secure: bool,
    pub(crate) host: Host,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum SendError {
    /// There is no connection.
    Dial(DialError),
    /// There was one.
    Http(hyper::Error),
    /// The request cannot be written.
    Unfit,
}

/// The body of a reply, with the connection that it comes over.
pub(crate) struct Answered {
    inner: Incoming,
    /// Nothing when it is shared with other requests, or free again.
    line: Option<(One, Home)>,
}

type One = Box<Driven<Line, Outgoing>>;

/// Where a connection belongs when it is free.
struct Home {
    pool: Arc<Pool>,
    origin: Arc<Origin>,
}

/// Connections without a request, and those that many requests share.
#[derive(Default)]
struct Pool(Mutex<HashMap<Arc<Origin>, Known>>);

#[derive(Default)]
struct Known {
    idle: Vec<(Instant, One)>,
    shared: Option<(Instant, http2::SendRequest<Outgoing>)>,
    /// It spoke HTTP/1.1 last, so that each request needs a connection of its own.
    one_by_one: bool,
    connecting: Arc<tokio::sync::Mutex<()>>,
}

/// A connection for one request.
enum Way {
    One(One),
    Shared(http2::SendRequest<Outgoing>),
}

impl Upstream {
    pub(crate) fn new(dialer: &Dialer) -> Self {
        let client = |kind| ApiClient::new(dialer, kind);
        Self { dialer: dialer.clone(), public: client(Kind::Catalog), owners: client(Kind::Owners) }
    }

    /// A client of its own for hosts that are no API, which keeps its connections to itself.
    pub(crate) fn hosts(&self) -> ApiClient {
        ApiClient::new(&self.dialer, Kind::Host)
    }

    /// Closes what nobody used for a while.
    pub(crate) fn sweep(&self) {
        self.public.pool.sweep();
        self.owners.pool.sweep();
    }
}

impl Origin {
    /// The name as a Host field has it; `None` when it is none, which the type of a host excludes.
    pub(crate) fn field(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.authority()).ok()
    }

    /// Without the port that the scheme means.
    fn authority(&self) -> String {
        let host = &self.host;
        if self.secure {
            host.to_string()
        } else if host.port() == PLAIN_PORT {
            host.name().to_owned()
        } else {
            format!("{}:{}", host.name(), host.port())
        }
    }
}

impl ApiClient {
    fn new(dialer: &Dialer, kind: Kind) -> Self {
        Self { connector: Connector { dialer: dialer.clone(), kind }, pool: Arc::default() }
    }

    /// Sends a request, whose address is a path, over a kept connection or a new one. A kept one may have been closed
    /// meanwhile: then a request that never left goes over another.
    pub(crate) async fn send(
        &self,
        origin: &Arc<Origin>,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Answered>, SendError> {
        while let Some(way) = self.pool.take(origin) {
            match self.over(way, origin, request).await? {
                Ok(reply) => return Ok(reply),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Http(error.into_error())),
                },
            }
        }
        let way = self.connect(origin).await?;
        self.over(way, origin, request).await?.map_err(|error| SendError::Http(error.into_error()))
    }

    /// A new connection, or one that another request made meanwhile: of many at once to an origin that may let
    /// them share one, the first connects. Whoever waited for that in vain connects by itself, so that a host that
    /// cannot be reached is waited for twice at most.
    async fn connect(&self, origin: &Arc<Origin>) -> Result<Way, SendError> {
        let connecting = self.pool.connecting(origin).filter(|_| origin.secure);
        let mut first = None;
        if let Some(connecting) = &connecting {
            first = connecting.try_lock().ok();
            if first.is_none() {
                drop(connecting.lock().await);
            }
            if let Some(way) = self.pool.shared(origin) {
                return Ok(way);
            }
        }
        let line = self.connector.connect(origin, Protocols::Any).await.map_err(SendError::Dial)?;
        let http2 = chosen_http2(&line);
        self.pool.with(origin, |known| known.one_by_one = !http2);
        let way = if http2 { self.speak_http2(origin, line).await? } else { speak_http1(line).await? };
        drop(first);
        Ok(way)
    }

    async fn over(
        &self,
        way: Way,
        origin: &Arc<Origin>,
        mut request: Request<Outgoing>,
    ) -> Result<Result<Response<Answered>, TrySendError<Request<Outgoing>>>, SendError> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        match way {
            Way::One(mut one) => {
                *request.uri_mut() = Uri::from(path);
                *request.version_mut() = Version::HTTP_11;
                let open = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
                request.headers_mut().insert(HOST, origin.field().ok_or(SendError::Unfit)?);
                if open {
                    // Without this a GET with a body of unknown length would go out without it.
                    request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                let reply = one.send(request).await;
                let home = Home { pool: self.pool.clone(), origin: origin.clone() };
                Ok(reply.map(|reply| reply.map(|inner| Answered::new(inner, Some((one, home))))))
            }
            Way::Shared(mut sender) => {
                let uri = Uri::builder().scheme(Scheme::HTTPS).authority(origin.authority()).path_and_query(path);
                *request.uri_mut() = uri.build().map_err(|_| SendError::Unfit)?;
                *request.version_mut() = Version::HTTP_2;
                request.headers_mut().remove(HOST);
                request.headers_mut().remove(TRANSFER_ENCODING);
                let reply = sender.try_send_request(request).await;
                if reply.is_err() {
                    self.pool.retire(origin);
                }
                Ok(reply.map(|reply| reply.map(|inner| Answered::new(inner, None))))
            }
        }
    }

    async fn speak_http2(&self, origin: &Arc<Origin>, line: Line) -> Result<Way, SendError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = builder.handshake(line).await.map_err(SendError::Http)?;
        // It ends when nobody has its sender any more and no reply goes on.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an API ended");
            }
        });
        self.pool.with(origin, |known| known.shared = Some((Instant::now(), sender.clone())));
        Ok(Way::Shared(sender))
    }
}

async fn speak_http1(line: Line) -> Result<Way, SendError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let one = Driven::handshake(&builder, line).await.map_err(SendError::Http)?;
    Ok(Way::One(Box::new(one)))
}

impl Pool {
    /// A connection to this origin: a shared one, or the one used last.
    fn take(&self, origin: &Arc<Origin>) -> Option<Way> {
        if let Some(way) = self.shared(origin) {
            return Some(way);
        }
        self.with(origin, |known| {
            while let Some((since, mut one)) = known.idle.pop() {
                if since.elapsed() < IDLE_CONNECTION && one.is_ready() {
                    return Some(Way::One(one));
                }
            }
            None
        })
    }

    fn shared(&self, origin: &Arc<Origin>) -> Option<Way> {
        self.with(origin, |known| {
            known.shared.take_if(|(_, sender)| sender.is_closed());
            let (used, sender) = known.shared.as_mut()?;
            *used = Instant::now();
            Some(Way::Shared(sender.clone()))
        })
    }

    /// What to hold while connecting; nothing for an origin whose connections cannot be shared.
    fn connecting(&self, origin: &Arc<Origin>) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.with(origin, |known| (!known.one_by_one).then(|| known.connecting.clone()))
    }

    fn put(&self, origin: &Arc<Origin>, one: One) {
        self.with(origin, |known| {
            if known.idle.len() >= MAX_IDLE_CONNECTIONS {
                known.idle.remove(0);
            }
            known.idle.push((Instant::now(), one));
        });
    }

    /// The shared connection takes no more requests.
    fn retire(&self, origin: &Arc<Origin>) {
        self.with(origin, |known| known.shared = None);
    }

    fn sweep(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, known| {
            known.idle.retain_mut(|(since, one)| since.elapsed() < IDLE_CONNECTION && one.is_ready());
            known.shared.take_if(|(used, sender)| sender.is_closed() || used.elapsed() >= IDLE_CONNECTION);
            !known.idle.is_empty() || known.shared.is_some()
        });
    }

    fn with<T>(&self, origin: &Arc<Origin>, f: impl FnOnce(&mut Known) -> T) -> T {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins.get_mut(origin) {
            return f(known);
        }
        f(origins.entry(origin.clone()).or_default())
    }
}

impl Answered {
    /// One over a connection that nobody else uses.
    pub(crate) fn alone(inner: Incoming) -> Self {
        Self::new(inner, None)
    }

    fn new(inner: Incoming, line: Option<(One, Home)>) -> Self {
        let mut answered = Self { inner, line };
        if answered.inner.is_end_stream() {
            answered.free();
        }
        answered
    }

    /// The reply is over: its connection takes the next request.
    fn free(&mut self) {
        if let Some((mut one, home)) = self.line.take()
            && one.is_ready()
        {
            home.pool.put(&home.origin, one);
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let me = self.get_mut();
        let frame = match &mut me.line {
            Some((one, _)) => one.poll_body(&mut me.inner, cx),
            None => Pin::new(&mut me.inner).poll_frame(cx),
        };
        match &frame {
            Poll::Ready(Some(Err(_))) => me.line = None,
            Poll::Ready(None) => me.free(),
            // A reply of known length is not asked for its end.
            Poll::Ready(Some(Ok(_))) if me.inner.is_end_stream() => me.free(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl SendError {
    /// Whether nothing was sent, for there was no connection.
    pub(crate) const fn is_connect(&self) -> bool {
        matches!(self, Self::Dial(_))
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial(_) => "there is no connection",
            Self::Http(_) => "the connection broke off",
            Self::Unfit => "the request cannot be written",
        })
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Dial(error) => Some(error),
            Self::Http(error) => Some(error),
            Self::Unfit => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Sent;
    use http_body_util::BodyExt;
    use oauth3_dial::DialConfig;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    /// What the server does after a reply.
    #[derive(Clone, Copy, PartialEq)]
    enum After {
        Keep,
        HangUp,
    }

    /// Answers each request with its connection's number, two bytes of three at once and the last when it is told to.
    async fn server(after: After) -> (Arc<Origin>, ApiClient, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, mut told) = mpsc::channel::<()>(8);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = Vec::new();
                while stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
                    if !asked.ends_with(b"ping") {
                        continue;
                    }
                    asked.clear();
                    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{number:02}");
                    stream.write_all(reply.as_bytes()).await.unwrap();
                    told.recv().await.unwrap();
                    // Whoever has hung up does not hear the rest.
                    let _ = stream.write_all(b".").await;
                    if after == After::HangUp {
                        break;
                    }
                }
            }
        });
        let resolve = BTreeMap::from([("api.example.com".to_owned(), address)]);
        let dialer = Dialer::new(DialConfig { resolve, ..DialConfig::default() }).unwrap();
        let host = Host::parse(&format!("api.example.com:{}", address.port())).unwrap();
        (Arc::new(Origin { secure: false, host }), ApiClient::new(&dialer, Kind::Owners), go_on)
    }

    fn ping() -> Request<Outgoing> {
        let mut body = Sent::Whole { bytes: Bytes::from_static(b"ping"), _place: None };
        Request::post("/").body(body.outgoing().unwrap()).unwrap()
    }

    async fn whole(reply: Response<Answered>) -> Bytes {
        reply.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_cannot_be_reached_is_waited_for_twice_at_most_however_many_call() {
        // It takes connections in and says nothing, so that each handshake takes as long as it may.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let resolve = BTreeMap::from([("api.example.com".to_owned(), address)]);
        let dialer = Dialer::new(DialConfig { resolve, ..DialConfig::default() }).unwrap();
        let host = Host::parse("api.example.com").unwrap();
        let origin = Arc::new(Origin { secure: true, host });
        let client = Arc::new(ApiClient::new(&dialer, Kind::Catalog));
        let begun = Instant::now();
        assert!(client.send(&origin, ping()).await.is_err_and(|error| error.is_connect()));
        let one = begun.elapsed();
        assert!(!one.is_zero());
        let begun = Instant::now();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (client, origin) = (client.clone(), origin.clone());
            calls.spawn(async move { client.send(&origin, ping()).await.is_err_and(|error| error.is_connect()) });
        }
        assert_eq!(calls.join_all().await, [true; 5]);
        assert_eq!(begun.elapsed().as_secs(), (one * 2).as_secs());
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_request() {
        let (origin, client, go_on) = server(After::Keep).await;
        for _ in 0..3 {
            go_on.send(()).await.unwrap();
            assert_eq!(whole(client.send(&origin, ping()).await.unwrap()).await, "00.");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_costs_no_request() {
        let (origin, client, go_on) = server(After::HangUp).await;
        for number in 0..3 {
            go_on.send(()).await.unwrap();
            assert_eq!(whole(client.send(&origin, ping()).await.unwrap()).await, format!("{number:02}."));
        }
    }

    #[tokio::test]
    async fn a_connection_whose_reply_is_not_read_to_its_end_is_not_used_again() {
        let (origin, client, go_on) = server(After::Keep).await;
        let mut reply = client.send(&origin, ping()).await.unwrap();
        assert_eq!(reply.frame().await.unwrap().unwrap().into_data().unwrap(), "00");
        drop(reply);
        go_on.send(()).await.unwrap();
        go_on.send(()).await.unwrap();
        assert_eq!(whole(client.send(&origin, ping()).await.unwrap()).await, "01.");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_is_closed() {
        let (origin, client, go_on) = server(After::Keep).await;
        go_on.send(()).await.unwrap();
        assert_eq!(whole(client.send(&origin, ping()).await.unwrap()).await, "00.");
        client.pool.sweep();
        assert_eq!(client.pool.0.lock().unwrap().len(), 1);
        tokio::time::advance(IDLE_CONNECTION).await;
        client.pool.sweep();
        assert!(client.pool.0.lock().unwrap().is_empty());
    }
}
