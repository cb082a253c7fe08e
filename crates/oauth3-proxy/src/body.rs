//! Bodies of requests: read whole where the call must be understood or may be made twice, streamed otherwise.

use crate::book::Api;
use crate::limits::{MAX_BODY_BYTES, MAX_WHOLE_BODY_BYTES, REQUEST_IDLE_TIMEOUT};
use crate::proxy::Proxy;
use crate::refuse::Refused;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use oauth3_core::KeyPlace;
use oauth3_provider::{CallInfo, Dialect, ask_for_usage};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, timeout};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is known of a call, and its body.
pub(crate) struct Read {
    pub(crate) info: CallInfo,
    pub(crate) body: Sent,
    /// Bytes of the body, as far as they are known.
    pub(crate) bytes: u64,
}

/// A body to be sent.
pub(crate) enum Sent {
    /// Whole, so that it can be sent again.
    Whole { bytes: Bytes, _place: Option<Arc<OwnedSemaphorePermit>> },
    /// As it comes, once.
    Stream(Option<Incoming>),
}

/// A body that is being sent.
pub(crate) enum Outgoing {
    Whole(Option<Bytes>, #[allow(dead_code, reason = "held for its place")] Option<Arc<OwnedSemaphorePermit>>),
    Stream(Box<Streaming>),
}

/// One that is sent as it comes.
pub(crate) struct Streaming {
    inner: Incoming,
    left: u64,
    /// Bytes that went.
    sent: Arc<AtomicU64>,
    idle: Pin<Box<Sleep>>,
}

impl Sent {
    /// No body.
    pub(crate) const fn nothing() -> Self {
        Self::Whole { bytes: Bytes::new(), _place: None }
    }

    /// The body for one try; nothing when it can be had once only and was.
    pub(crate) fn outgoing(&mut self) -> Option<Outgoing> {
        match self {
            Self::Whole { bytes, _place } => Some(Outgoing::Whole(Some(bytes.clone()), _place.clone())),
            Self::Stream(inner) => inner.take().map(|inner| Outgoing::counted(inner, Arc::default())),
        }
    }

    /// Has a stream tell what it used, where the client does not ask for that itself. Says whether it was asked here.
    pub(crate) fn ask_for_usage(&mut self, api: &Api, path: &str, info: &CallInfo) -> bool {
        let Self::Whole { bytes, .. } = self else { return false };
        let edited = if api.stream_usage { ask_for_usage(api.dialect, path, info, bytes) } else { None };
        let asked = edited.is_some();
        if let Some(edited) = edited {
            *bytes = edited.into();
        }
        asked
    }

    /// Whether it can be sent again.
    pub(crate) const fn again(&self) -> bool {
        matches!(self, Self::Whole { .. })
    }
}

impl Outgoing {
    /// No body.
    pub(crate) const fn nothing() -> Self {
        Self::Whole(None, None)
    }

    /// Its bytes, when they are all there.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(bytes, _) => Some(bytes.as_deref().unwrap_or_default()),
            Self::Stream(_) => None,
        }
    }

    /// One that is sent as it comes; `sent` counts its bytes.
    pub(crate) fn counted(inner: Incoming, sent: Arc<AtomicU64>) -> Self {
        let idle = Box::pin(sleep(REQUEST_IDLE_TIMEOUT));
        Self::Stream(Box::new(Streaming { inner, left: MAX_BODY_BYTES, sent, idle }))
    }
}

/// Reads as much of a call as is needed to know what it is.
pub(crate) async fn read(proxy: &Proxy, api: &Api, path: &str, head: &Parts, body: Incoming) -> Result<Read, Refused> {
    let hint = body.size_hint();
    // What is signed is signed over its body.
    let signs = matches!(api.place, Some(KeyPlace::SigV4 { .. }));
    let wanted = signs || api.dialect.needs_body(head.method.as_str(), path);
    if body.is_end_stream() {
        let info = understand(api.dialect, path, &head.headers, &[])?;
        return Ok(Read { info, body: Sent::nothing(), bytes: 0 });
    }
    if hint.lower() > MAX_BODY_BYTES {
        return Err(too_large(MAX_BODY_BYTES));
    }
    let small = hint.exact().is_some_and(|bytes| bytes <= MAX_WHOLE_BODY_BYTES as u64);
    if !wanted && !small {
        let info = understand(api.dialect, path, &head.headers, &[])?;
        return Ok(Read { info, bytes: hint.lower(), body: Sent::Stream(Some(body)) });
    }
    if hint.lower() > MAX_WHOLE_BODY_BYTES as u64 {
        return Err(too_large(MAX_WHOLE_BODY_BYTES as u64));
    }
    // A body that says its length takes so much of what all may take; one that does not may become the largest.
    let room = hint.exact().map_or(MAX_WHOLE_BODY_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let place = proxy.room(room).await?;
    let bytes = whole(body, room).await?;
    let info = understand(api.dialect, path, &head.headers, &bytes)?;
    Ok(Read { info, bytes: bytes.len() as u64, body: Sent::Whole { bytes, _place: place } })
}

fn understand(dialect: Dialect, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<CallInfo, Refused> {
    if !body.is_empty() && headers.contains_key(CONTENT_ENCODING) && dialect != Dialect::Plain {
        return Err(Refused::invalid("send the body without Content-Encoding, so that its model can be read"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    dialect.read_call(path, kind, body).map_err(|error| Refused::invalid(error.to_string()))
}

async fn whole(mut body: Incoming, most: usize) -> Result<Bytes, Refused> {
    let mut pieces: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    loop {
        let frame = timeout(REQUEST_IDLE_TIMEOUT, body.frame()).await;
        let slow = || Refused::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body did not come in time");
        let data = match frame.map_err(|_| slow())? {
            None => break,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return Err(Refused::invalid("the body broke off")),
        };
        let had = pieces.as_ref().map_or_else(|| first.as_ref().map_or(0, Bytes::len), BytesMut::len);
        if had.saturating_add(data.len()) > most {
            return Err(too_large(most as u64));
        }
        match (&mut pieces, first.take()) {
            (Some(pieces), _) => pieces.extend_from_slice(&data),
            (None, None) => first = Some(data),
            (None, Some(begun)) => {
                let mut joined = BytesMut::with_capacity(begun.len() + data.len());
                joined.extend_from_slice(&begun);
                joined.extend_from_slice(&data);
                pieces = Some(joined);
            }
        }
    }
    Ok(pieces.map(BytesMut::freeze).or(first).unwrap_or_default())
}

fn too_large(most: u64) -> Refused {
    let sentence = format!("the body is larger than {most} bytes");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes, _) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Stream(streaming) => streaming.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes, _) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(streaming) => streaming.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(streaming) => streaming.inner.size_hint(),
        }
    }
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                return Poll::Ready(Some(Err("the client fell silent".into())));
            }
        };
        self.idle.as_mut().reset(Instant::now() + REQUEST_IDLE_TIMEOUT);
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(error.into())),
            // Trailers of requests are nobody's here.
            Some(Ok(frame)) => frame.into_data().ok().map(|data| {
                self.left = self.left.checked_sub(data.len() as u64).ok_or("the body is too large")?;
                self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(data))
            }),
        })
    }
}
