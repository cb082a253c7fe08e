//! The body of a request on its way out: watched for placeholders that may not pass, filled where the binding
//! says so, and never held whole unless somebody asks.

use super::head::Filler;
use super::replace::{Replacer, Syntax};
use super::{Barred, Unfit, inspect_fields};
use crate::body::BoxError;
use crate::hygiene::clean_trailers;
use crate::marks::Scan;
use crate::reply::Refusal;
use crate::rules::Bars;
use crate::run::Run;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use oauth3_core::{Host, Slot};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// What a body came upon.
#[derive(Debug, Default)]
pub(crate) struct Tripwire(Mutex<(Option<Refusal>, Option<Incoming>)>);

impl Tripwire {
    /// Why the body ended, when that was our doing. Once only.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }

    /// What was not read of it. Once only.
    pub(crate) fn rest(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    fn set(&self, refusal: Refusal, rest: Option<Incoming>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Some(refusal), rest);
    }
}

/// Where the bytes come from.
enum Source {
    Wire(Incoming),
    Whole(Bytes),
    Gone,
}

type Recording = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Puts values into a body.
struct Filling {
    syntax: Syntax,
    replacer: Replacer,
    /// What came and was not looked at yet.
    pending: Bytes,
    /// The placeholder that was just found, while its use is being recorded.
    found: Option<(usize, Recording)>,
    recorded: BTreeSet<usize>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// The body of a request on its way out. A placeholder in it that may not be there ends it; one that may stand in
/// bodies becomes its value; the others pass as they are. Trailers pass too, with placeholders as they are.
pub(crate) struct Watched {
    source: Source,
    run: Arc<Run>,
    host: Host,
    bars: Arc<Bars>,
    /// `None` when no placeholder is barred: then there is nothing to watch for.
    scan: Option<Scan>,
    filling: Option<Filling>,
    tripwire: Arc<Tripwire>,
}

impl Watched {
    /// `syntax` is given when placeholders may become values in it.
    pub(crate) fn new(
        inner: Incoming,
        run: &Arc<Run>,
        host: &Host,
        bars: &Arc<Bars>,
        syntax: Option<Syntax>,
    ) -> (Box<Self>, Arc<Tripwire>) {
        let tripwire = Arc::<Tripwire>::default();
        let filling = syntax.map(|syntax| Filling {
            syntax,
            replacer: Replacer::new(syntax, &run.marks),
            pending: Bytes::new(),
            found: None,
            recorded: BTreeSet::new(),
            trailers: None,
            ended: false,
        });
        // Requests are moved many times, and are as large as this.
        let body = Box::new(Self {
            source: Source::Wire(inner),
            run: Arc::clone(run),
            host: host.clone(),
            bars: Arc::clone(bars),
            scan: bars.any().then(|| run.marks.scan()),
            filling,
            tripwire: Arc::clone(&tripwire),
        });
        (body, tripwire)
    }

    /// These bytes in place of what was read out of it.
    pub(super) fn replaced(mut self: Box<Self>, bytes: Bytes) -> Box<Self> {
        (self.source, self.scan, self.filling) = (Source::Whole(bytes), None, None);
        self
    }

    /// The whole body, when it is held.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The same for a body that is held whole or has no bytes, to send a request once more; `None` for every other.
    pub(crate) fn again(&self) -> Option<Box<Self>> {
        let source = match &self.source {
            Source::Whole(bytes) => Source::Whole(bytes.clone()),
            _ if http_body::Body::is_end_stream(self) => Source::Gone,
            _ => return None,
        };
        Some(Box::new(Self {
            source,
            run: Arc::clone(&self.run),
            host: self.host.clone(),
            bars: Arc::clone(&self.bars),
            scan: None,
            filling: None,
            tripwire: Arc::clone(&self.tripwire),
        }))
    }

    /// Ends it for a reason.
    fn trip(&mut self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let rest = match std::mem::replace(&mut self.source, Source::Gone) {
            Source::Wire(rest) => Some(rest),
            _ => None,
        };
        self.tripwire.set(refusal, rest);
        Poll::Ready(Some(Err("the request's body was refused".into())))
    }

    /// The next piece or the trailers as they came, looked through.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stop>>> {
        let inner = match &mut self.source {
            Source::Gone => return Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Gone;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Source::Wire(inner) => inner,
        };
        let mut frame = match ready!(http_body::Body::poll_frame(Pin::new(inner), cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Stop::Broken(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let (run, bars) = (&self.run, &self.bars);
        let barred = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                let seen = |scan| run.marks.seen(scan, data, |index| bars.get(index).is_some());
                self.scan.as_mut().and_then(seen).and_then(|index| Some((index, bars.get(index)?)))
            }
            (_, Some(fields)) => inspect_fields(run.held(), bars, fields).err().map(|Barred(index, bar)| (index, bar)),
            _ => None,
        };
        if let Some(fields) = frame.trailers_mut() {
            clean_trailers(fields);
        }
        match barred {
            Some((index, bar)) => {
                let refusal = self.run.barred(index, bar, &self.host);
                self.run.note_refusal(&refusal);
                Poll::Ready(Some(Err(Stop::Refused(refusal))))
            }
            None => Poll::Ready(Some(Ok(frame))),
        }
    }

    /// Fills what came. None when more must come.
    fn fill(&mut self, filling: &mut Filling, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), Refusal>> {
        let run = Arc::clone(&self.run);
        let filler = Filler::new(run.held(), &self.host, &self.bars, run.clock.now());
        loop {
            if let Some((index, recording)) = &mut filling.found {
                let index = *index;
                if !filling.recorded.contains(&index) {
                    ready!(recording.as_mut().poll(cx))?;
                    filling.recorded.insert(index);
                }
                filling.found = None;
                let written = filler.material(index, |value| filling.syntax.write(value)).flatten();
                let written = written.ok_or_else(|| run.unfit(&Unfit(index), &self.host))?;
                out.extend_from_slice(&written);
            }
            let mut piece: &[u8] = &filling.pending;
            let before = piece.len();
            let wanted = |index| filler.leases(Slot::Body).any(|fills| fills == index);
            let found = filling.replacer.next(&run.marks, &mut piece, out, wanted);
            let read = before - piece.len();
            drop(filling.pending.split_to(read));
            let Some(index) = found else { return Poll::Ready(Ok(())) };
            let (of_run, host) = (Arc::clone(&run), self.host.clone());
            let recording = Box::pin(async move { of_run.record_uses(&[index].into(), &host).await });
            filling.found = Some((index, recording));
        }
    }
}

/// Why there is no next piece.
enum Stop {
    Refused(Refusal),
    Broken(BoxError),
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(mut filling) = this.filling.take() else {
            return match ready!(this.poll_source(cx)) {
                None => Poll::Ready(None),
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(Err(Stop::Refused(refusal))) => this.trip(refusal),
                Some(Err(Stop::Broken(error))) => Poll::Ready(Some(Err(error))),
            };
        };
        let mut out = Vec::new();
        let step = loop {
            match this.fill(&mut filling, cx, &mut out) {
                Poll::Pending if out.is_empty() => break Poll::Pending,
                Poll::Pending => break Poll::Ready(Some(Ok(()))),
                Poll::Ready(Err(refusal)) => break Poll::Ready(Some(Err(Stop::Refused(refusal)))),
                Poll::Ready(Ok(())) => {}
            }
            if !out.is_empty() {
                break Poll::Ready(Some(Ok(())));
            }
            if filling.ended {
                let trailers = filling.trailers.take();
                this.filling = Some(filling);
                return Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))));
            }
            match this.poll_source(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => filling.pending = data,
                    // They come when the body is out.
                    Err(frame) => filling.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(stop))) => break Poll::Ready(Some(Err(stop))),
                Poll::Ready(None) => {
                    filling.ended = true;
                    filling.replacer.finish(&mut out);
                }
            }
        };
        this.filling = Some(filling);
        match step {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(()))) => Poll::Ready(Some(Ok(Frame::data(out.into())))),
            Poll::Ready(Some(Err(Stop::Refused(refusal)))) => this.trip(refusal),
            Poll::Ready(Some(Err(Stop::Broken(error)))) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.filling.as_ref().is_some_and(|filling| !filling.ended || filling.trailers.is_some()) {
            return false;
        }
        match &self.source {
            Source::Gone => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Wire(inner) => http_body::Body::is_end_stream(inner),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // What is filled has another length.
            _ if self.filling.is_some() => SizeHint::default(),
            Source::Gone => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Wire(inner) => http_body::Body::size_hint(inner),
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
