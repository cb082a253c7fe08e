//! The bodies of replies as they stream back: scrubbed, never held whole.

use crate::decode::{Decoder, Step};
use crate::hygiene::clean_trailers;
use crate::limits::BODY_IDLE_TIMEOUT;
use crate::messages::scrub_piece;
use crate::upstream::Kept;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use oauth3_vault::ScrubStream;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

/// Why a body ended before its end.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer to the code.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How a reply is read on its way back.
#[derive(Default)]
pub(crate) struct Reading {
    /// `None` when it came as it is. With the place that it takes among the run's decoders.
    pub(crate) decode: Option<(Decoder, OwnedSemaphorePermit)>,
    /// `None` when there is nothing to scrub.
    pub(crate) scrub: Option<ScrubStream>,
}

/// The body of a reply on its way back, with its trailers: decoded and scrubbed, in the pieces in which it came. When
/// it has ended, its connection is free for the next request.
pub(crate) struct Scrubbed {
    inner: Incoming,
    reading: Reading,
    connection: Option<Kept>,
    /// Made when nothing comes at once.
    idle: Option<Pin<Box<Sleep>>>,
    /// Whether the host has sent all, and its trailers, scrubbed.
    came_whole: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// What goes out before anything else is read.
    next: Bytes,
}

impl Scrubbed {
    pub(crate) fn new(inner: Incoming, reading: Reading, connection: Kept) -> Self {
        let connection = Some(connection);
        let mut body = Self {
            inner,
            reading,
            connection,
            idle: None,
            came_whole: false,
            trailers: None,
            ended: false,
            next: Bytes::new(),
        };
        if http_body::Body::is_end_stream(&body.inner) {
            body.end();
        }
        body
    }

    /// Reads ahead to the first piece of a coded reply, so that one that is broken from the start is an answer of
    /// ours and not a torn one.
    pub(crate) async fn begun(mut self) -> Result<Self, BoxError> {
        if self.reading.decode.is_some()
            && let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await
        {
            self.next = piece?;
        }
        Ok(self)
    }

    /// The next clean bytes.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while !self.ended {
            let (mut clean, mut piece) = (Vec::new(), Bytes::new());
            let decoded = match self.decoded(&mut clean) {
                Ok(decoded) => decoded,
                Err(broken) => return self.fail(broken),
            };
            if !decoded {
                match ready!(self.poll_came(cx)) {
                    Ok(data) => piece = self.take(data),
                    Err(error) => return self.fail(error),
                }
            }
            if self.came_whole && self.reading.decode.is_none() {
                if let Some(scrub) = self.reading.scrub.take() {
                    scrub.finish(&mut clean);
                }
                self.end();
            }
            if !clean.is_empty() {
                piece = clean.into();
            }
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        Poll::Ready(None)
    }

    /// Goes on with what came already, where a reply is coded. Whether there was anything.
    fn decoded(&mut self, clean: &mut Vec<u8>) -> Result<bool, BoxError> {
        let Some((decoder, _)) = &mut self.reading.decode else { return Ok(self.came_whole) };
        match decoder.step()? {
            Step::Hungry if self.came_whole => Err("the reply ends within its compressed data".into()),
            Step::Hungry => Ok(false),
            Step::Piece(piece) => {
                scrub(&mut self.reading.scrub, piece, clean);
                Ok(true)
            }
            Step::Over => {
                self.reading.decode = None;
                Ok(true)
            }
        }
    }

    /// What the host sends next; nothing when that was all.
    fn poll_came(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, BoxError>> {
        let came = match &mut self.connection {
            Some(kept) => kept.sender.line.poll_body(&mut self.inner, cx),
            None => http_body::Body::poll_frame(Pin::new(&mut self.inner), cx),
        };
        let frame = match came {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(BODY_IDLE_TIMEOUT)));
                ready!(idle.as_mut().poll(cx));
                return Poll::Ready(Err("the reply fell silent".into()));
            }
        };
        if let Some(idle) = &mut self.idle {
            idle.as_mut().reset(Instant::now() + BODY_IDLE_TIMEOUT);
        }
        // A reply of known length is not asked for its end, so that the end is looked for here.
        self.came_whole = frame.is_none() || http_body::Body::is_end_stream(&self.inner);
        Poll::Ready(match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => Ok(data),
            Some(Ok(Err(frame))) => {
                self.trailers = frame.into_trailers().ok().map(|fields| self.clean(fields));
                Ok(Bytes::new())
            }
            Some(Err(error)) => Err(error.into()),
            None => Ok(Bytes::new()),
        })
    }

    fn clean(&self, mut trailers: HeaderMap) -> HeaderMap {
        clean_trailers(&mut trailers);
        match &self.connection {
            Some(kept) if self.reading.scrub.is_some() => kept.run.scrub_fields(&mut trailers),
            _ => {}
        }
        trailers
    }

    /// The next of what came that can go out; none where it must be decoded first.
    fn take(&mut self, data: Bytes) -> Bytes {
        if let Some((decoder, _)) = &mut self.reading.decode {
            decoder.feed(data);
            if self.came_whole {
                decoder.end();
            }
            return Bytes::new();
        }
        let Some(scrub) = &mut self.reading.scrub else { return data };
        let (piece, next) = scrub_piece(scrub, &data, self.came_whole);
        self.next = next;
        piece
    }

    fn fail<T>(&mut self, error: BoxError) -> Poll<Option<Result<T, BoxError>>> {
        self.ended = true;
        self.connection = None;
        self.trailers = None;
        Poll::Ready(Some(Err(error)))
    }

    fn end(&mut self) {
        self.ended = true;
        self.reading = Reading::default();
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }
}

fn scrub(scrub: &mut Option<ScrubStream>, data: &[u8], clean: &mut Vec<u8>) {
    match scrub {
        Some(scrub) => scrub.push(data, clean),
        None => clean.extend_from_slice(data),
    }
}

impl http_body::Body for Scrubbed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.next.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.next)))));
        }
        match ready!(self.poll_piece(cx)) {
            Some(piece) => Poll::Ready(Some(piece.map(Frame::data))),
            None => Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(fields)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.next.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // The length that the host announced stands in the field; this keeps hyper from adding one.
        if http_body::Body::is_end_stream(self) { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
