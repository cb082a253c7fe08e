//! Bodies as they stream: watched on the way out, scrubbed on the way back, never held whole.

use crate::limits::BODY_IDLE_TIMEOUT;
use crate::marks::Scan;
use crate::pool::Kept;
use crate::run::Run;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use oauth3_core::Host;
use oauth3_vault::ScrubStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep, sleep};

/// Why a body ended before its end.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer to the code.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What a watched body came upon.
#[derive(Debug, Default)]
pub(crate) struct Tripwire(Mutex<Option<(usize, Incoming)>>);

impl Tripwire {
    /// The secret whose placeholder was seen, and the rest of the body. Once only.
    pub(crate) fn take(&self) -> Option<(usize, Incoming)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, index: usize, rest: Incoming) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, rest));
    }
}

/// The body of a request on its way out. A placeholder in it whose secret is not bound to the host ends it;
/// the other placeholders pass as they are. Trailers are dropped.
pub(crate) struct Watched {
    inner: Option<Incoming>,
    run: Arc<Run>,
    host: Host,
    /// `None` when every secret of the run is bound to the host: then there is nothing to watch for.
    scan: Option<Scan>,
    tripwire: Arc<Tripwire>,
}

impl Watched {
    pub(crate) fn new(inner: Incoming, run: &Arc<Run>, host: &Host) -> (Self, Arc<Tripwire>) {
        let tripwire = Arc::<Tripwire>::default();
        let held = run.held();
        let scan = (0..held.leases.len()).any(|index| !held.bound(index, host)).then(|| run.marks.scan());
        let tied = Arc::clone(&tripwire);
        (Self { inner: Some(inner), run: Arc::clone(run), host: host.clone(), scan, tripwire: tied }, tripwire)
    }
}

impl Watched {
    /// The same for a body that has no bytes, to send a request once more; `None` for every other.
    pub(crate) fn empty_again(&self) -> Option<Self> {
        http_body::Body::is_end_stream(self).then(|| Self {
            inner: None,
            run: Arc::clone(&self.run),
            host: self.host.clone(),
            scan: self.scan,
            tripwire: Arc::clone(&self.tripwire),
        })
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else { return Poll::Ready(None) };
        let data = match ready!(Pin::new(inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => return Poll::Ready(None),
            },
        };
        let held = this.run.held();
        let stray = |scan| held.marks.seen(scan, &data, |index| !held.bound(index, &this.host));
        let astray = this.scan.as_mut().and_then(stray);
        match (astray, this.inner.take_if(|_| astray.is_some())) {
            (Some(index), Some(rest)) => {
                this.run.astray_in_body(index, &this.host);
                this.tripwire.set(index, rest);
                Poll::Ready(Some(Err("a placeholder in the body".into())))
            }
            _ => Poll::Ready(Some(Ok(Frame::data(data)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

/// The body of a reply on its way back: scrubbed, in the pieces in which it came. Trailers are dropped. When
/// it has ended, its connection is free for the next request.
pub(crate) struct Scrubbed {
    inner: Incoming,
    /// `None` when there is nothing to scrub, or the end has come.
    scrub: Option<ScrubStream>,
    connection: Option<Kept>,
    idle: Pin<Box<Sleep>>,
    ended: bool,
}

impl Scrubbed {
    pub(crate) fn new(inner: Incoming, scrub: Option<ScrubStream>, connection: Kept) -> Self {
        let mut body =
            Self { inner, scrub, connection: Some(connection), idle: Box::pin(sleep(BODY_IDLE_TIMEOUT)), ended: false };
        if http_body::Body::is_end_stream(&body.inner) {
            body.scrub = None;
            body.end();
        }
        body
    }

    fn scrubbed(&mut self, data: Bytes, last: bool) -> Bytes {
        let Some(scrub) = self.scrub.as_mut() else { return data };
        let mut clean = Vec::with_capacity(data.len());
        scrub.push(&data, &mut clean);
        if last && let Some(scrub) = self.scrub.take() {
            scrub.finish(&mut clean);
        }
        clean.into()
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }
}

impl http_body::Body for Scrubbed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while !this.ended {
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.idle.as_mut().poll(cx));
                    this.ended = true;
                    this.connection = None;
                    return Poll::Ready(Some(Err("the reply fell silent".into())));
                }
            };
            this.idle.as_mut().reset(Instant::now() + BODY_IDLE_TIMEOUT);
            let over = frame.is_none();
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    this.ended = true;
                    this.connection = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => Bytes::new(),
            };
            // A reply of known length is not asked for its end, so that the end is looked for here.
            let last = http_body::Body::is_end_stream(&this.inner) || over;
            let clean = this.scrubbed(data, last);
            if last {
                this.end();
            }
            if !clean.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(clean))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // The length that the host announced stands in the field; this keeps hyper from adding one.
        if self.ended { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
