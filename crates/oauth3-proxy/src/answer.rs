//! The reply of an API on its way to the client: decoded where it was compressed, scrubbed, counted, and cut when the
//! right to it ends.

use crate::admit::Right;
use crate::book::Api;
use crate::keys::{Key, Opened};
use crate::limits::REPLY_IDLE_TIMEOUT;
use crate::plain::HostReply;
use crate::proxy::{Place, Proxy};
use crate::refuse::Refused;
use crate::socket::Socket;
use crate::upstream::Answered;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use oauth3_core::Tally;
use oauth3_inject::messages::{ReplyDecoder, clean_reply, scrub_fields, scrub_piece};
use oauth3_provider::{CallInfo, UsageMeter, UsageTrim};
use oauth3_vault::ScrubStream;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep};

/// The media type of a stream of events (HTML, §9.2).
const EVENTS: &str = "text/event-stream";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What becomes an answer. Large, and needed until there is one: a connection whose reply goes on, or that waits for its
/// next call, must not hold its memory.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Response<Reply>> + Send + 'a>>;

/// The body of an answer.
pub(crate) enum Reply {
    /// One of our own.
    Whole(Option<Bytes>),
    /// One of an API.
    Stream(Box<Passing>),
    /// One of a host that is no API.
    Host(Box<HostReply>),
    /// None: the connection becomes a WebSocket.
    Switched(Box<Socket>),
}

/// A call that was made, as long as its reply goes on. Dropped, it is counted.
pub(crate) struct Under {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) right: Right,
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) info: CallInfo,
    /// The stream was asked for its usage by us, so that the client is not to see it.
    pub(crate) asked_for_usage: bool,
    pub(crate) request_bytes: u64,
    pub(crate) began: std::time::Instant,
    /// Its place among the calls of its agent, until the reply has ended.
    pub(crate) _going: Place,
    pub(crate) status: StatusCode,
    pub(crate) meter: Option<UsageMeter>,
    /// Whether the API answered at all.
    pub(crate) answered: bool,
    pub(crate) error: Option<String>,
}

/// The body of a reply, passing through.
pub(crate) struct Passing {
    inner: Answered,
    under: Box<Under>,
    scrub: Option<ScrubStream>,
    decoder: Option<ReplyDecoder>,
    trim: Option<UsageTrim>,
    /// What goes out before anything else is read.
    next: Bytes,
    ended: bool,
    /// Made when nothing comes at once.
    waiting: Option<Waiting>,
}

struct Waiting {
    idle: Pin<Box<Sleep>>,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Turns an API's reply into the client's.
pub(crate) async fn hand_back(
    mut under: Box<Under>,
    api: &Api,
    opened: Option<&Opened>,
    reply: Response<Answered>,
) -> Result<Response<Reply>, Refused> {
    let (mut head, body) = reply.into_parts();
    under.status = head.status;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(under.ends(Refused::upstream(StatusCode::BAD_GATEWAY, "the API wants another protocol")));
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_events = kind.is_some_and(|kind| {
        let kind = kind.trim_start().get(..EVENTS.len());
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
    });
    let trim = (under.asked_for_usage && is_events).then(UsageTrim::default);
    under.answered = true;
    // What names no model uses none.
    under.meter = under.info.model.is_some().then(|| api.dialect.meter(kind, head.status.as_u16()));
    let decoder = under.proxy.decoders.open(&mut head.headers).await;
    let decoder = decoder.map_err(|sentence| under.ends(Refused::upstream(StatusCode::BAD_GATEWAY, sentence)))?;
    clean_reply(&mut head.headers);
    if trim.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    // A session with the API would be the owner's, in the hands of the agent.
    head.headers.remove(SET_COOKIE);
    if let Some(Opened { leases, scrubber }) = opened {
        scrub_fields(scrubber, leases, &mut head.headers);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let scrub = opened.map(|opened| opened.scrubber.stream());
    let passing = Passing { inner: body, under, scrub, decoder, trim, next: Bytes::new(), ended: false, waiting: None };
    Ok(Response::from_parts(head, Reply::Stream(Box::new(passing))))
}

impl Reply {
    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Passing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.next.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.next)))));
        }
        while !self.ended {
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => match self.poll_waiting(cx) {
                    Poll::Ready(reason) => return self.fail(reason),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(waiting) = &mut self.waiting {
                waiting.idle.as_mut().reset(Instant::now() + REPLY_IDLE_TIMEOUT);
            }
            // A reply of known length is not asked for its end, so that the end is looked for here.
            let last = frame.is_none() || self.inner.is_end_stream();
            let data = match frame {
                // Trailers are left out: no API of the catalog has any.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return self.fail("the API's reply broke off"),
                None => Bytes::new(),
            };
            match self.take(data, last) {
                Ok(clean) if clean.is_empty() && !self.ended => {}
                Ok(clean) if clean.is_empty() => return Poll::Ready(None),
                Ok(clean) => return Poll::Ready(Some(Ok(Frame::data(clean)))),
                Err(sentence) => return self.fail(&sentence),
            }
        }
        Poll::Ready(None)
    }

    /// The clean form of what came.
    fn take(&mut self, data: Bytes, last: bool) -> Result<Bytes, String> {
        let Self { scrub, decoder, .. } = self;
        let Some(decoder) = decoder else {
            let (piece, next) = match scrub {
                Some(scrub) => scrub_piece(scrub, &data, last),
                None => (data, Bytes::new()),
            };
            self.ended = last;
            let piece = self.counted(piece);
            if !next.is_empty() {
                self.next = self.counted(next);
            }
            return Ok(piece);
        };
        let mut clean = Vec::with_capacity(data.len());
        if decoder.push(data, last, |piece| clean_into(scrub, piece, &mut clean))? || last {
            if let Some(scrub) = scrub.take() {
                scrub.finish(&mut clean);
            }
            self.ended = true;
        }
        Ok(self.counted(clean.into()))
    }

    /// What the client gets of it.
    fn counted(&mut self, clean: Bytes) -> Bytes {
        self.under.count(&clean);
        let Some(trim) = &mut self.trim else { return clean };
        let mut kept = Vec::with_capacity(clean.len());
        trim.push(&clean, &mut kept);
        if self.ended {
            trim.finish(&mut kept);
        }
        kept.into()
    }

    /// Ready when the API was silent for too long, or the right to the reply has ended.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let under = &self.under;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            idle: Box::pin(sleep(REPLY_IDLE_TIMEOUT)),
            // What changed before the first wait is seen at once; after it, each change is.
            changed: Box::pin(std::future::ready(())),
        });
        while waiting.changed.as_mut().poll(cx).is_ready() {
            waiting.changed = Box::pin(under.right.changed(&under.proxy));
            if !under.right.stands(&under.proxy, under.key.as_deref()) {
                return Poll::Ready("the owner took the right to this back");
            }
        }
        waiting.idle.as_mut().poll(cx).map(|()| "the API fell silent")
    }

    fn fail<T>(&mut self, reason: &str) -> Poll<Option<Result<T, BoxError>>> {
        self.ended = true;
        self.under.error = Some(reason.to_owned());
        Poll::Ready(Some(Err(reason.into())))
    }
}

fn clean_into(scrub: &mut Option<ScrubStream>, piece: &[u8], clean: &mut Vec<u8>) {
    match scrub {
        Some(scrub) => scrub.push(piece, clean),
        None => clean.extend_from_slice(piece),
    }
}

impl Under {
    /// Why the client gets no answer of the API; it is this that is noted of the call.
    pub(crate) fn ends(&mut self, why: impl Into<Refused>) -> Refused {
        let refused = why.into();
        self.error = Some(refused.sentence.to_string());
        refused
    }

    fn count(&mut self, bytes: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.push(bytes);
        }
    }

    fn tally(&mut self) -> (Option<String>, Tally) {
        let usage =
            self.meter.take().map(|meter| meter.finish().with_request_bytes(self.request_bytes)).unwrap_or_default();
        // Counted under the model that was asked for: what an API calls it in its reply is finer than grants are.
        let model = self.info.model.take().or_else(|| usage.model.clone());
        let api = &self.right.seat.api;
        let price = model.as_deref().and_then(|model| self.proxy.prices.price(api.id.name(), model));
        let usd = price.map(|price| price.cost(&usage)).unwrap_or_default();
        let went_well = self.status.is_success() || self.status == StatusCode::SWITCHING_PROTOCOLS;
        let tally = Tally {
            calls: 1,
            failed: u64::from(!self.answered || !went_well || self.error.is_some()),
            estimated: u64::from(usage.estimated),
            tokens_in: usage.tokens_in,
            tokens_out: usage.tokens_out,
            usd,
            millis: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (model, tally)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let now = self.proxy.clock.now();
        let (model, tally) = self.tally();
        let right = &self.right;
        if let Some(meter) = &right.meter {
            meter.spend(&tally, now);
        }
        let (agent, api) = (&right.seat.agent, &right.seat.api.id);
        self.proxy.ledger.add(agent, api, model.as_deref(), right.grant.as_ref(), &tally, now);
        if let Some(once) = &mut self.right.once {
            match self.error.take() {
                Some(error) => once.came_to(Err(error)),
                None if self.answered => once.came_to(Ok(())),
                None => {}
            }
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(passing) => passing.poll(cx),
            Self::Host(reply) => reply.poll(cx),
            Self::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(passing) => passing.ended,
            Self::Host(reply) => reply.has_ended(),
            Self::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            // The length that the API announced stands in the field.
            Self::Switched(_) => SizeHint::with_exact(0),
            Self::Stream(passing) if passing.ended => SizeHint::with_exact(0),
            Self::Host(reply) if reply.has_ended() => SizeHint::with_exact(0),
            Self::Stream(_) | Self::Host(_) => SizeHint::default(),
        }
    }
}
