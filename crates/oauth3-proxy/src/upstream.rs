//! Requests to APIs over connections that are kept from call to call and shared by all agents: what tells agents apart
//! is in the request.

use crate::body::Outgoing;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, IDLE_CONNECTION, MAX_HEAD_BYTES, MAX_IDLE_CONNECTIONS, MAX_IDLE_IN_ALL, MAX_STREAMS,
    STREAM_WINDOW_BYTES,
};
use crate::line::{Connector, Kind, Transport, chosen_http2};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use oauth3_core::Host;
use oauth3_dial::{DialError, Dialer, Protocols};
use oauth3_inject::Driven;
use oauth3_inject::pool::{self, Bounds, Shared};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// With TLS.
    pub(crate) secure: bool,
    pub(crate) host: Host,
    /// As a Host field has it: without the port that the scheme means.
    field: Option<HeaderValue>,
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
    /// Nothing when it is free again, or nobody else's anyway.
    line: Option<(Line, Home)>,
}

/// Where a connection belongs when it is free.
struct Home {
    pool: Arc<Pool>,
    origin: Arc<Origin>,
}

type Pool = pool::Pool<Arc<Origin>, Transport, Outgoing>;
type Line = pool::Line<Transport, Outgoing>;

/// How much is kept.
const BOUNDS: Bounds =
    Bounds { idle: MAX_IDLE_CONNECTIONS, idle_in_all: MAX_IDLE_IN_ALL, age: IDLE_CONNECTION, streams: MAX_STREAMS };

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
    pub(crate) fn new(secure: bool, host: Host) -> Self {
        let authority = if secure {
            host.to_string()
        } else if host.port() == PLAIN_PORT {
            host.name().to_owned()
        } else {
            format!("{}:{}", host.name(), host.port())
        };
        Self { secure, host, field: HeaderValue::try_from(authority).ok() }
    }

    /// The name as a Host field has it; `None` when it is none, which the type of a host excludes.
    pub(crate) const fn field(&self) -> Option<&HeaderValue> {
        self.field.as_ref()
    }
}

impl ApiClient {
    fn new(dialer: &Dialer, kind: Kind) -> Self {
        Self { connector: Connector { dialer: dialer.clone(), kind }, pool: Arc::new(Pool::new(BOUNDS)) }
    }

    /// Sends a request, whose address is a path, over a kept connection or a new one. A kept one may have been closed
    /// meanwhile: then a request that never left goes over another.
    pub(crate) async fn send(
        &self,
        origin: &Arc<Origin>,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Answered>, SendError> {
        let authority = origin.field().ok_or(SendError::Unfit)?;
        loop {
            let (mut line, kept) = match self.pool.take(origin) {
                Some(line) => (line, true),
                // Seldom, and large: not in the memory of each call.
                None => (Box::pin(self.pool.connect(origin, self.connect(origin))).await?, false),
            };
            line.address(&mut request, authority).ok_or(SendError::Unfit)?;
            match line.send(request).await {
                Ok(reply) => {
                    let home = Home { pool: self.pool.clone(), origin: origin.clone() };
                    return Ok(reply.map(|inner| Answered::new(inner, Some((line, home)))));
                }
                Err(mut error) => {
                    line.retire();
                    match error.take_message().filter(|_| kept) {
                        Some(unsent) => request = unsent,
                        None => return Err(SendError::Http(error.into_error())),
                    }
                }
            }
        }
    }

    /// Sends a request over a connection of its own, which the host may turn into something else.
    pub(crate) async fn send_alone(
        &self,
        origin: &Origin,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Answered>, SendError> {
        let stream = self.connector.connect(origin, Protocols::Http1).await.map_err(SendError::Dial)?;
        let (mut line, driven) = Line::alone(&http1_client(), stream).await.map_err(SendError::Http)?;
        tokio::spawn(driven);
        line.address(&mut request, origin.field().ok_or(SendError::Unfit)?).ok_or(SendError::Unfit)?;
        let reply = line.send(request).await.map_err(|error| SendError::Http(error.into_error()))?;
        Ok(reply.map(|inner| Answered::new(inner, None)))
    }

    /// A new connection.
    async fn connect(&self, origin: &Arc<Origin>) -> Result<Line, SendError> {
        let stream = self.connector.connect(origin, Protocols::Any).await.map_err(SendError::Dial)?;
        if chosen_http2(&stream) {
            return self.speak_http2(origin, stream).await;
        }
        let one = Driven::handshake(&http1_client(), stream).await.map_err(SendError::Http)?;
        Ok(Line::One(Box::new(one)))
    }

    async fn speak_http2(&self, origin: &Arc<Origin>, stream: Transport) -> Result<Line, SendError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = builder.handshake(stream).await.map_err(SendError::Http)?;
        let (shared, driven) = Shared::new(sender, connection, MAX_STREAMS);
        tokio::spawn(driven);
        Ok(Line::Stream(self.pool.share(origin, shared)))
    }
}

fn http1_client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    builder
}

impl Answered {
    fn new(inner: Incoming, line: Option<(Line, Home)>) -> Self {
        let mut answered = Self { inner, line };
        if answered.inner.is_end_stream() {
            answered.free();
        }
        answered
    }

    /// The reply is over: its connection takes the next request.
    fn free(&mut self) {
        if let Some((line, home)) = self.line.take() {
            home.pool.put(&home.origin, line);
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let me = self.get_mut();
        let frame = match &mut me.line {
            Some((line, _)) => line.poll_body(&mut me.inner, cx),
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
    use tokio::time::Instant;

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
        (Arc::new(Origin::new(false, host)), ApiClient::new(&dialer, Kind::Owners), go_on)
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
        let origin = Arc::new(Origin::new(true, host));
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
        go_on.send(()).await.unwrap();
        assert_eq!(whole(client.send(&origin, ping()).await.unwrap()).await, "00.");
        tokio::time::advance(IDLE_CONNECTION).await;
        client.pool.sweep();
        // The server serves another connection when that one is closed.
        let other = ApiClient::new(&client.connector.dialer, Kind::Owners);
        go_on.send(()).await.unwrap();
        assert_eq!(whole(other.send(&origin, ping()).await.unwrap()).await, "01.");
    }
}
