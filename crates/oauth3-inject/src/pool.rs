//! Connections to hosts that are kept for the next request: HTTP/1.1 for one request at a time, HTTP/2 for as many as
//! the host allows. Whoever owns a pool decides who shares it: what tells requests apart must be in them.

use crate::driven::Driven;
use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::bounds::Http2ClientConnExec;
use hyper::rt::{Read, Write};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// What carries requests: TCP, or TLS over it.
pub trait Transport: Read + Write + Unpin + Send + 'static {}

impl<T: Read + Write + Unpin + Send + 'static> Transport for T {}

/// What requests carry.
pub trait Payload: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static {}

impl<B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static> Payload for B {}

/// Connections by where they go. None ever serves two places.
pub struct Pool<K, T: Transport, B: Payload> {
    known: Mutex<BTreeMap<K, Known<T, B>>>,
    bounds: Bounds,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections without a request: to one place, and in all.
    pub idle: usize,
    /// See `idle`.
    pub idle_in_all: usize,
    /// How long one is kept without a request.
    pub age: Duration,
    /// Requests that share a connection at most, whatever the host allows.
    pub streams: usize,
}

/// A connection, for one request.
pub enum Line<T: Transport, B: Payload> {
    /// HTTP/1.1.
    One(Box<Driven<T, B>>),
    /// HTTP/1.1 that may become something else, for one request.
    Alone(http1::SendRequest<B>),
    /// One stream of an HTTP/2 connection.
    Stream(Stream<B>),
}

/// An HTTP/2 connection.
pub struct Shared<B: Payload> {
    sender: http2::SendRequest<B>,
    /// How many streams the host allows, as far as it is known.
    allowed: Arc<AtomicUsize>,
    streams: AtomicUsize,
    used: Mutex<Instant>,
    /// Takes no more requests.
    retired: AtomicBool,
}

/// A stream of an HTTP/2 connection, counted as long as it lives.
pub struct Stream<B: Payload>(Arc<Shared<B>>);

/// What is known of a place.
struct Known<T: Transport, B: Payload> {
    idle: Vec<(Instant, Box<Driven<T, B>>)>,
    shared: Vec<Arc<Shared<B>>>,
    /// Whether it spoke HTTP/1.1 last, so that each request needs a connection of its own.
    one_by_one: bool,
    connecting: Arc<tokio::sync::Mutex<()>>,
}

impl<T: Transport, B: Payload> Default for Known<T, B> {
    fn default() -> Self {
        Self { idle: Vec::new(), shared: Vec::new(), one_by_one: false, connecting: Arc::default() }
    }
}

impl<K: Ord + Clone, T: Transport, B: Payload> Pool<K, T, B> {
    /// One that keeps at most so much.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { known: Mutex::new(BTreeMap::new()), bounds }
    }

    /// A connection that takes a request: a shared one, or the one used last.
    pub fn take(&self, place: &K) -> Option<Line<T, B>> {
        loop {
            if let Some(stream) = self.stream(place) {
                return Some(Line::Stream(stream));
            }
            let (since, mut one) = self.with(place, |known| known.idle.pop())?;
            if since.elapsed() < self.bounds.age && one.is_ready() {
                return Some(Line::One(one));
            }
        }
    }

    /// The connection that `dial` makes, or a stream of one that another request made meanwhile: where a connection may
    /// be shared, the first of many requests at once connects. Whoever waited for that in vain connects by itself,
    /// so that a host that cannot be reached is waited for twice at most.
    ///
    /// # Errors
    /// What `dial` says.
    pub async fn connect<E>(
        &self,
        place: &K,
        dial: impl Future<Output = Result<Line<T, B>, E>>,
    ) -> Result<Line<T, B>, E> {
        let connecting = self.with(place, |known| (!known.one_by_one).then(|| Arc::clone(&known.connecting)));
        let mut turn = None;
        if let Some(connecting) = &connecting {
            turn = match connecting.try_lock() {
                Ok(turn) => Some(turn),
                Err(_) => {
                    let turn = connecting.lock().await;
                    // What was made meanwhile may be full already: then one more is made, and not one for each.
                    self.with(place, |known| !known.shared.is_empty()).then_some(turn)
                }
            };
            if let Some(stream) = self.stream(place) {
                return Ok(Line::Stream(stream));
            }
        }
        let line = dial.await?;
        self.with(place, |known| known.one_by_one = !matches!(line, Line::Stream(_)));
        drop(turn);
        Ok(line)
    }

    /// Takes in a new HTTP/2 connection; its first stream.
    pub fn share(&self, place: &K, shared: Shared<B>) -> Stream<B> {
        let shared = Arc::new(shared);
        shared.streams.fetch_add(1, Ordering::SeqCst);
        self.with(place, |known| known.shared.push(Arc::clone(&shared)));
        Stream(shared)
    }

    /// The reply over it is over: it takes the next request, if it can.
    pub fn put(&self, place: &K, line: Line<T, B>) {
        let Line::One(mut one) = line else { return };
        if !one.is_ready() {
            return;
        }
        let mut places = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if places.values().map(|known| known.idle.len()).sum::<usize>() >= self.bounds.idle_in_all {
            return;
        }
        let known = places.entry(place.clone()).or_default();
        if known.idle.len() >= self.bounds.idle {
            known.idle.remove(0);
        }
        known.idle.push((Instant::now(), one));
    }

    /// Closes what nobody used for a while.
    pub fn sweep(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, known| {
            known.idle.retain_mut(|(since, one)| since.elapsed() < self.bounds.age && one.is_ready());
            known.shared.retain(|shared| shared.usable(self.bounds.age));
            !known.idle.is_empty() || !known.shared.is_empty()
        });
    }

    /// Closes what is idle.
    pub fn clear(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A stream of a connection that is there.
    fn stream(&self, place: &K) -> Option<Stream<B>> {
        self.with(place, |known| {
            known.shared.retain(|shared| shared.usable(self.bounds.age));
            known.shared.iter().find_map(|shared| shared.stream(self.bounds.streams))
        })
    }

    fn with<R>(&self, place: &K, f: impl FnOnce(&mut Known<T, B>) -> R) -> R {
        let mut places = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get_mut(place) {
            return f(known);
        }
        f(places.entry(place.clone()).or_default())
    }
}

impl<T: Transport, B: Payload> Line<T, B> {
    /// HTTP/1.1 over a new connection, for one request that the host may answer by turning it into something else; with
    /// what drives it, which ends with what it carries: when the host switches, with the reply; else with its body.
    ///
    /// # Errors
    /// What the library says.
    pub async fn alone(
        builder: &http1::Builder,
        transport: T,
    ) -> Result<(Self, impl Future<Output = ()> + use<T, B>), hyper::Error> {
        let (sender, connection) = builder.handshake(transport).await?;
        let driven = async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a host ended");
            }
        };
        Ok((Self::Alone(sender), driven))
    }

    /// Makes it a request to this authority, in the form of the connection's protocol: whatever named the host before
    /// gives way. Nothing when the authority is none.
    #[must_use]
    pub fn address(&self, request: &mut Request<B>, authority: &HeaderValue) -> Option<()> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        if let Self::Stream(_) = self {
            let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority.as_bytes()).path_and_query(path);
            *request.uri_mut() = uri.build().ok()?;
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
            request.headers_mut().remove(TRANSFER_ENCODING);
            return Some(());
        }
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        let open = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
        request.headers_mut().insert(HOST, authority.clone());
        if open {
            // Without this a GET with a body of unknown length would go out without it.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(())
    }

    /// Sends.
    ///
    /// # Errors
    /// What the library says; with the request, when it never left.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        match self {
            Self::One(one) => one.send(request).await,
            Self::Alone(one) => one.try_send_request(request).await,
            Self::Stream(Stream(shared)) => shared.sender.clone().try_send_request(request).await,
        }
    }

    /// The next frame of the reply.
    pub fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::One(one) => one.poll_body(body, cx),
            Self::Alone(_) | Self::Stream(_) => Pin::new(body).poll_frame(cx),
        }
    }

    /// A request failed: the connection takes no more.
    pub fn retire(&self) {
        if let Self::Stream(Stream(shared)) = self {
            shared.retired.store(true, Ordering::SeqCst);
        }
    }
}

impl<B: Payload> Shared<B> {
    /// With what drives it, which keeps in mind how many streams the host allows at a time (`allowed` at first) and ends
    /// when nobody has the connection any more and no reply goes on.
    pub fn new<T: Transport, E: Http2ClientConnExec<B, T> + Unpin>(
        sender: http2::SendRequest<B>,
        connection: http2::Connection<T, B, E>,
        allowed: usize,
    ) -> (Self, impl Future<Output = ()> + use<T, B, E>) {
        let allowed = Arc::new(AtomicUsize::new(allowed));
        let current = Arc::clone(&allowed);
        let driven = async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                current.store(connection.current_max_send_streams(), Ordering::SeqCst);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a connection to a host ended");
            }
        };
        let shared = Self {
            sender,
            allowed,
            streams: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            retired: AtomicBool::new(false),
        };
        (shared, driven)
    }

    fn usable(&self, age: Duration) -> bool {
        let idle = self.streams.load(Ordering::SeqCst) == 0;
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let open = !self.sender.is_closed() && !self.retired.load(Ordering::SeqCst);
        open && (!idle || used.elapsed() < age)
    }

    fn stream(self: &Arc<Self>, most: usize) -> Option<Stream<B>> {
        let most = self.allowed.load(Ordering::SeqCst).clamp(1, most);
        let more = |streams| (streams < most).then_some(streams + 1);
        let counted = self.streams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        counted.is_ok().then(|| Stream(Arc::clone(self)))
    }
}

impl<B: Payload> Drop for Stream<B> {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<K, T: Transport, B: Payload> fmt::Debug for Pool<K, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
