//! What a run may send and receive: counted on the code's own connections, so that heads, bodies, TLS and whatever
//! a connection becomes later all count, and nothing has to be counted twice.

use crate::limits::RESERVE_BYTES;
use crate::refusals::Kind;
use crate::reply::Refusal;
use crate::run::Run;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, Version};
use oauth3_core::{EgressUsage, Limits};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The counters of one run.
#[derive(Debug)]
pub(crate) struct Meter {
    egress_mb: u64,
    egress_requests: u64,
    sent: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (egress_mb, egress_requests) = (limits.egress_mb, limits.egress_requests);
        Self { egress_mb, egress_requests, sent: 0.into(), received: 0.into(), requests: 0.into() }
    }

    /// What was used so far.
    pub(crate) fn usage(&self) -> EgressUsage {
        EgressUsage {
            egress_sent_bytes: self.sent.load(Ordering::Relaxed),
            egress_received_bytes: self.received.load(Ordering::Relaxed),
            egress_requests: self.requests.load(Ordering::Relaxed),
            // Known when the run ends.
            egress_refused: 0,
        }
    }

    /// Counts a request; refuses it when there were enough, or all bytes are used.
    pub(crate) fn request(&self, head: &Parts) -> Result<(), Refusal> {
        if head.version == Version::HTTP_2 {
            // Fields that were said before cost the code next to nothing, and the host gets them whole.
            let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len().saturating_add(value.len());
            count(&self.sent, head.headers.iter().map(field).fold(0, usize::saturating_add));
        }
        if self.bytes() >= self.budget() {
            return Err(self.spent());
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.egress_requests {
            return Err(over(format!(
                "this run has made its {} requests (limit egress_requests)",
                self.egress_requests
            )));
        }
        Ok(())
    }

    fn spent(&self) -> Refusal {
        over(format!("this run has sent and received its {} MB (limit egress_mb)", self.egress_mb))
    }

    fn bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_add(self.received.load(Ordering::Relaxed))
    }

    const fn budget(&self) -> u64 {
        self.egress_mb.saturating_mul(1 << 20)
    }
}

fn over(sentence: String) -> Refusal {
    Refusal { kind: Kind::OverLimit, ..Refusal::denied(StatusCode::TOO_MANY_REQUESTS, "", sentence) }
}

/// A connection of the code whose bytes count. One that was there when the last of them was used is cut; a later one
/// lives as long as it takes to say why nothing goes through it.
pub(crate) struct Metered<S> {
    inner: S,
    run: Arc<Run>,
    /// The bytes at which it is cut.
    end: u64,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, run: &Arc<Run>) -> Self {
        let budget = run.meter.budget();
        let late = run.meter.bytes() >= budget;
        let end = if late { budget.saturating_add(RESERVE_BYTES) } else { budget };
        Self { inner, run: Arc::clone(run), end }
    }

    /// How many bytes are left; an error once all are used.
    fn check(&self) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.run.meter.bytes());
        if left > 0 {
            return Ok(usize::try_from(left).unwrap_or(usize::MAX));
        }
        // Recorded the first time; nobody here can wait for it.
        self.run.note_refusal(&self.run.meter.spent());
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// Adds what was moved, if anything was.
fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        count(&self.run.meter.sent, buffer.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.check()?;
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes.get(..left).unwrap_or(bytes)))?;
        count(&self.run.meter.received, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let left = self.check()?;
        if parts.iter().map(|part| part.len()).sum::<usize>() > left {
            let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
            return self.poll_write(cx, first);
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, parts))?;
        count(&self.run.meter.received, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
