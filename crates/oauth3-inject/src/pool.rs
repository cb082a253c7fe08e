//! Upstream connections that are kept for the next request of the same run to the same host.

use crate::driven::Driven;
use crate::fill::Watched;
use crate::limits::{MAX_IDLE_AGE, MAX_IDLE_PER_HOST, MAX_STREAMS};
use crate::run::Run;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use oauth3_core::Host;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// What carries one request at a time.
pub(crate) type One = Box<Driven<TokioIo<TlsStream<TcpStream>>, Watched>>;

/// The sending half of an upstream connection, for one request.
pub(crate) struct Sender {
    pub(crate) line: Line,
    /// The request's place among those that the run has under way.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// Which protocol it speaks.
pub(crate) enum Line {
    /// HTTP/1.1.
    One(One),
    /// HTTP/1.1 that may become something else, for one request.
    Alone(http1::SendRequest<Watched>),
    /// One stream of an HTTP/2 connection.
    Stream(Stream),
}

/// Connections by host. None ever serves two hosts or two runs.
#[derive(Default)]
pub(crate) struct Pool(Mutex<BTreeMap<Host, Known>>);

/// What is known of a host.
#[derive(Default)]
struct Known {
    idle: Vec<(Instant, One)>,
    shared: Vec<Arc<Shared>>,
    /// Whether it spoke HTTP/1.1 last, so that each request needs a connection of its own.
    one_by_one: bool,
    connecting: Arc<tokio::sync::Mutex<()>>,
}

/// An HTTP/2 connection.
pub(crate) struct Shared {
    sender: http2::SendRequest<Watched>,
    /// How many streams the host allows, as far as it is known.
    allowed: Arc<AtomicUsize>,
    streams: AtomicUsize,
    used: Mutex<Instant>,
    /// Takes no more requests.
    retired: AtomicBool,
}

/// A stream of an HTTP/2 connection, counted as long as it lives.
pub(crate) struct Stream(Arc<Shared>);

impl Shared {
    /// `allowed`: how many streams the host allows at a time, kept current by whoever drives the connection.
    pub(crate) fn new(sender: http2::SendRequest<Watched>, allowed: Arc<AtomicUsize>) -> Self {
        Self {
            sender,
            allowed,
            streams: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            retired: AtomicBool::new(false),
        }
    }

    fn usable(&self) -> bool {
        let idle = self.streams.load(Ordering::SeqCst) == 0;
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let open = !self.sender.is_closed() && !self.retired.load(Ordering::SeqCst);
        open && (!idle || used.elapsed() < MAX_IDLE_AGE)
    }

    fn stream(self: &Arc<Self>) -> Option<Stream> {
        let most = self.allowed.load(Ordering::SeqCst).clamp(1, MAX_STREAMS as usize);
        let more = |streams| (streams < most).then_some(streams + 1);
        let counted = self.streams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        counted.is_ok().then(|| Stream(Arc::clone(self)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Line {
    /// Sends; a request that never left is given back with the error.
    pub(crate) async fn send(
        &mut self,
        request: Request<Watched>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Watched>>> {
        match self {
            Self::One(one) => one.send(request).await,
            Self::Alone(one) => one.try_send_request(request).await,
            Self::Stream(Stream(shared)) => shared.sender.clone().try_send_request(request).await,
        }
    }

    /// The next frame of the reply.
    pub(crate) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::One(one) => one.poll_body(body, cx),
            Self::Alone(_) | Self::Stream(_) => Pin::new(body).poll_frame(cx),
        }
    }

    /// A request failed that is sent again over another connection: this one takes no more.
    pub(crate) fn retire(&self) {
        if let Self::Stream(Stream(shared)) = self {
            shared.retired.store(true, Ordering::SeqCst);
        }
    }
}

impl Pool {
    /// A connection to this host that takes a request: a shared one, or the one used last.
    pub(crate) fn take(&self, host: &Host) -> Option<Line> {
        loop {
            if let Some(stream) = self.stream(host) {
                return Some(Line::Stream(stream));
            }
            let (since, mut one) = self.with(host, |known| known.idle.pop())?;
            if since.elapsed() < MAX_IDLE_AGE && one.is_ready() {
                return Some(Line::One(one));
            }
        }
    }

    /// A stream of a connection that is there.
    pub(crate) fn stream(&self, host: &Host) -> Option<Stream> {
        self.with(host, |known| {
            known.shared.retain(|shared| shared.usable());
            known.shared.iter().find_map(Shared::stream)
        })
    }

    /// Takes in a new HTTP/2 connection; its first stream.
    pub(crate) fn share(&self, host: &Host, shared: Shared) -> Option<Stream> {
        self.with(host, |known| {
            known.one_by_one = false;
            let shared = Arc::new(shared);
            known.shared.push(Arc::clone(&shared));
            shared.stream()
        })
    }

    /// The host spoke HTTP/1.1.
    pub(crate) fn one_by_one(&self, host: &Host) {
        self.with(host, |known| known.one_by_one = true);
    }

    /// What to hold while connecting to a host that may let requests share a connection, so that many requests at
    /// once make one connection and not many.
    pub(crate) fn connecting(&self, host: &Host) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.with(host, |known| (!known.one_by_one).then(|| Arc::clone(&known.connecting)))
    }

    fn with<T>(&self, host: &Host, f: impl FnOnce(&mut Known) -> T) -> T {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get_mut(host) {
            return f(known);
        }
        f(hosts.entry(host.clone()).or_default())
    }

    fn put(&self, host: &Host, one: One) {
        self.with(host, |known| {
            if known.idle.len() >= MAX_IDLE_PER_HOST {
                known.idle.remove(0);
            }
            known.idle.push((Instant::now(), one));
        });
    }

    /// Closes what is idle.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A connection whose reply is still being read. Dropped, it closes, or resets its stream.
pub(crate) struct Kept {
    pub(crate) run: Arc<Run>,
    pub(crate) host: Host,
    pub(crate) sender: Sender,
}

impl Kept {
    pub(crate) fn give_back(self) {
        if let Line::One(mut one) = self.sender.line
            && one.is_ready()
        {
            self.run.pool.put(&self.host, one);
        }
    }
}
