//! One request over one connection to the host: a kept one, or a new one, in the protocol that the host speaks.

use crate::driven::Driven;
use crate::fill::Watched;
use crate::limits::{
    CONNECT_TIMEOUT, HOST_CONNECTION_WINDOW_BYTES, HOST_STREAM_WINDOW_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_IDLE,
    MAX_IDLE_AGE, MAX_LOCAL_RESETS, MAX_READ_BYTES, MAX_SEND_BUFFER_BYTES, MAX_STREAMS,
};
use crate::pool::{self, Bounds, Shared};
use crate::reply::Refusal;
use crate::run::Run;
use crate::tasks::OnRun;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use oauth3_core::Host;
use oauth3_dial::{Protocols, Tls};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Connections that are kept for the next request of the same run to the same host.
pub(crate) type Pool = pool::Pool<Host, TokioIo<Tls>, Box<Watched>>;
/// One of them, for one request.
pub(crate) type Line = pool::Line<TokioIo<Tls>, Box<Watched>>;

/// One of so many that share what a run may keep.
pub(crate) const fn pool_of(count: usize) -> Pool {
    let idle = MAX_IDLE.div_ceil(count);
    Pool::new(Bounds { idle, idle_in_all: idle, age: MAX_IDLE_AGE, streams: MAX_STREAMS as usize })
}

/// The sending half of an upstream connection, for one request.
pub(crate) struct Sender {
    pub(crate) line: Line,
    /// The request's place among those that the run has under way.
    _place: OwnedSemaphorePermit,
}

/// A connection whose reply is still being read. Dropped, it closes, or resets its stream.
pub(crate) struct Kept {
    pub(crate) run: Arc<Run>,
    pub(crate) host: Host,
    pub(crate) sender: Sender,
}

impl Kept {
    pub(crate) fn give_back(self) {
        self.run.lanes.pool().put(&self.host, self.sender.line);
    }
}

/// Sends over a kept connection or a new one. A kept one may have been closed by the host meanwhile: then the
/// request is sent again when it never left, or when doing so twice does no harm.
pub(crate) async fn send(
    run: &Arc<Run>,
    host: &Host,
    head: Parts,
    body: Box<Watched>,
) -> Result<(Response<Incoming>, Sender), Refusal> {
    let place = place(run).await?;
    let again = if head.method.is_idempotent() { body.again().map(|body| (head.clone(), body)) } else { None };
    let mut request = Request::from_parts(head, body);
    if let Some(mut line) = run.lanes.pool().take(host) {
        address(run, &mut request, host, &line)?;
        match line.send(request).await {
            Ok(reply) => return checked(reply, host, Sender { line, _place: place }),
            Err(mut error) => match (error.take_message(), again) {
                (Some(unsent), _) => request = unsent,
                (None, Some((head, body))) => request = Request::from_parts(head, body),
                (None, None) => return Err(gone(host, error.error())),
            },
        }
        line.retire();
    }
    // Seldom, and large: not in the memory of each request.
    let connecting = Box::pin(run.lanes.pool().connect(host, connect(run, host)));
    let mut line = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| slow(host))??;
    address(run, &mut request, host, &line)?;
    let reply = line.send(request).await.map_err(|error| gone(host, error.error()))?;
    checked(reply, host, Sender { line, _place: place })
}

/// Sends over a new HTTP/1.1 connection that the host may turn into something else.
pub(crate) async fn send_alone(
    run: &Arc<Run>,
    host: &Host,
    mut request: Request<Box<Watched>>,
) -> Result<(Response<Incoming>, Sender), Refusal> {
    let place = place(run).await?;
    let stream = dial(run, host, Protocols::Http1);
    let stream = timeout(CONNECT_TIMEOUT, stream).await.map_err(|_| slow(host))??;
    let alone = Line::alone(&http1_client(), TokioIo::new(stream)).await;
    let (mut line, driven) = alone.map_err(|error| gone(host, &error))?;
    run.tasks.spawn(driven);
    address(run, &mut request, host, &line)?;
    let reply = line.send(request).await.map_err(|error| gone(host, error.error()))?;
    checked(reply, host, Sender { line, _place: place })
}

/// Whatever named the host before gives way to what was checked.
fn address(run: &Run, request: &mut Request<Box<Watched>>, host: &Host, line: &Line) -> Result<(), Refusal> {
    let authority = run.authorities.get(host);
    authority.and_then(|authority| line.address(request, authority)).ok_or_else(|| broken(host))
}

async fn place(run: &Run) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = Arc::clone(&run.requests).acquire_owned().await;
    place.map_err(|_| Refusal::failed(StatusCode::SERVICE_UNAVAILABLE, "", "the run is over"))
}

/// A new connection.
async fn connect(run: &Arc<Run>, host: &Host) -> Result<Line, Refusal> {
    let stream = dial(run, host, Protocols::Any).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return speak_http2(run, host, stream).await;
    }
    let one = Driven::handshake(&http1_client(), TokioIo::new(stream)).await.map_err(|error| gone(host, &error))?;
    Ok(Line::One(Box::new(one)))
}

async fn dial(run: &Run, host: &Host, protocols: Protocols) -> Result<Tls, Refusal> {
    let failed = |error: oauth3_dial::DialError| Refusal::failed(StatusCode::BAD_GATEWAY, "", error.to_string());
    run.dialer.connect_tls(host, protocols).await.map_err(failed)
}

fn http1_client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_READ_BYTES);
    builder
}

async fn speak_http2(run: &Arc<Run>, host: &Host, stream: Tls) -> Result<Line, Refusal> {
    let (sender, connection) = http2::Builder::new(OnRun(Arc::clone(run)))
        .timer(TokioTimer::new())
        .initial_max_send_streams(MAX_STREAMS as usize)
        .initial_stream_window_size(HOST_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HOST_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| gone(host, &error))?;
    let (shared, driven) = Shared::new(sender, connection, MAX_STREAMS as usize);
    run.tasks.spawn(driven);
    Ok(Line::Stream(run.lanes.pool().share(host, shared)))
}

/// What the libraries let through of a head: HTTP/2 bounds its bytes and not its fields, HTTP/1.1 its fields, and its
/// bytes only by what is read at once.
fn checked(reply: Response<Incoming>, host: &Host, sender: Sender) -> Result<(Response<Incoming>, Sender), Refusal> {
    let bytes = reply.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if reply.headers().len() > MAX_HEADERS || bytes > MAX_HEAD_BYTES {
        return Err(Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), NOT_HTTP));
    }
    Ok((reply, sender))
}

const NOT_HTTP: &str = "the host's reply is not HTTP as we know it, or its head is too large";

fn gone(host: &Host, error: &hyper::Error) -> Refusal {
    tracing::debug!(%error, "upstream exchange failed");
    let sentence = if error.is_parse() || error.is_parse_too_large() {
        NOT_HTTP
    } else if error.is_user() || error.is_body_write_aborted() {
        "the request's body ended early"
    } else {
        "the host ended the connection before it answered"
    };
    Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), sentence)
}

fn slow(host: &Host) -> Refusal {
    Refusal::failed(StatusCode::BAD_GATEWAY, "", format!("{host}: connecting took too long"))
}

fn broken(host: &Host) -> Refusal {
    Refusal::failed(StatusCode::BAD_REQUEST, host.to_string(), "the request cannot be sent on")
}
