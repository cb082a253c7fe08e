//! Placeholders in a request, and what takes their place. Read [`fill`] from top to bottom.
//!
//! A value is touched only after its use was recorded. What may stand where is the binding's: host, rules and slots
//! are asked again where a value is read.

mod auth;
mod head;
mod outgoing;
mod replace;

pub(crate) use head::{Filler, RESERVED, decoded};
pub(crate) use outgoing::{Tripwire, Watched};

use crate::limits::{BUFFER_TIMEOUT, MAX_BUFFERED_BODY_BYTES, MAX_SIGNED_BODY_BYTES};
use crate::marks::Marks;
use crate::reply::Refusal;
use crate::rules::{Bar, Bars};
use crate::run::Run;
use crate::sign;
use bytes::BytesMut;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use oauth3_core::{Host, Slot};
use oauth3_vault::Lease;
use std::sync::Arc;
use tokio::time::timeout;

/// The leases of a run with the means to find their placeholders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) leases: &'a [Lease],
    pub(crate) marks: &'a Marks,
}

impl Held<'_> {
    /// Whether a secret may go to a host: name and port.
    pub(crate) fn bound(&self, index: usize, host: &Host) -> bool {
        self.leases.get(index).is_some_and(|lease| lease.hosts.contains(host))
    }
}

/// A secret whose placeholder was seen where it may not be; by position, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Barred(pub(crate) usize, pub(crate) Bar);

/// A secret whose value cannot stand where its placeholder does; by position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) usize);

/// Looks for placeholders that end the request: in the path and query, in names and values of fields, as they
/// stand, percent-encoded or in Basic credentials.
pub(crate) fn inspect(held: Held<'_>, bars: &Bars, head: &Parts) -> Result<(), Barred> {
    if !bars.any() {
        return Ok(());
    }
    let check = |text: &[u8]| check(held, bars, text);
    if let Some(path) = head.uri.path_and_query() {
        let once: Vec<u8> = percent_encoding::percent_decode_str(path.as_str()).collect();
        check(path.as_str().as_bytes())?;
        check(&once)?;
    }
    inspect_fields(held, bars, &head.headers)
}

/// The same for fields alone.
pub(crate) fn inspect_fields(held: Held<'_>, bars: &Bars, fields: &HeaderMap) -> Result<(), Barred> {
    for (name, value) in fields {
        if let Some(index) = held.marks.seen_in_name(name.as_str(), |index| bars.get(index).is_some()) {
            return bars.get(index).map_or(Ok(()), |bar| Err(Barred(index, bar)));
        }
        check(held, bars, value.as_bytes())?;
        if let Some(pair) = head::basic(value) {
            check(held, bars, &pair)?;
        }
    }
    Ok(())
}

fn check(held: Held<'_>, bars: &Bars, text: &[u8]) -> Result<(), Barred> {
    let seen = held.marks.seen_in(text, |index| bars.get(index).is_some());
    seen.and_then(|index| Some(Barred(index, bars.get(index)?))).map_or(Ok(()), Err)
}

/// Fills a head once more after a host refused an access token in it, with a newer one; `None` when there is none,
/// or when more than values would have to be put in.
pub(crate) async fn refill(run: &Run, host: &Host, bars: &Bars, mut head: Parts) -> Option<Parts> {
    let filler = Filler::new(run.held(), host, bars, run.clock.now());
    let uses = filler.uses(&head);
    let signed = sign::plan(&filler, &uses, &head).ok()?;
    if signed.uses().next().is_some() || !run.renew(&uses, true).await {
        return None;
    }
    auth::clear(&filler, &mut head).ok()?;
    filler.fill(&mut head).ok()?;
    Some(head)
}

/// Puts into a request what its placeholders stand for. The body comes back as it goes out: watched, filled, and
/// held whole only where a signature or a length needs that.
pub(crate) async fn fill(
    run: &Arc<Run>,
    host: &Host,
    bars: &Arc<Bars>,
    head: &mut Parts,
    body: &mut Option<Incoming>,
) -> Result<(Box<Watched>, Arc<Tripwire>), Refusal> {
    let held = run.held();
    let mut filler = Filler::new(held, host, bars, run.clock.now());
    let mut uses = filler.uses(head);
    let signed = sign::plan(&filler, &uses, head).map_err(|sentence| refuse(host, sentence))?;
    uses.extend(signed.uses());
    auth::clear(&filler, head).map_err(|sentence| refuse(host, sentence))?;
    run.record_uses(&uses, host).await?;
    run.renew(&uses, false).await;
    filler.fill(head).map_err(|unfit| run.unfit(&unfit, host))?;

    let Some(inner) = body.as_ref() else { return Err(refuse(host, "the request cannot be sent on")) };
    let fills_body = filler.leases(Slot::Body).next().is_some() && !inner.is_end_stream();
    if fills_body && head.headers.contains_key(CONTENT_ENCODING) {
        let sentence = "a secret may stand in bodies to this host, and this body is encoded, so that nothing can be \
                        put into it; send it without Content-Encoding";
        return Err(refuse(host, sentence));
    }
    let exact = inner.size_hint().exact();
    let Some(inner) = body.take() else { return Err(refuse(host, "the request cannot be sent on")) };
    let (watched, tripwire) =
        Watched::new(inner, run, host, bars, fills_body.then(|| replace::Syntax::of(&head.headers)));
    let mut whole = async |watched, limit, head: &mut Parts| match whole(watched, &tripwire, limit, host, head).await {
        Ok(watched) => Ok(watched),
        Err(refusal) => {
            // What was not read of it is the caller's to drain.
            *body = tripwire.rest();
            Err(refusal)
        }
    };
    let watched = if signed.needs_body() {
        Box::pin(whole(watched, MAX_SIGNED_BODY_BYTES, head)).await?
    } else if fills_body && exact.is_some_and(|bytes| bytes <= MAX_BUFFERED_BODY_BYTES as u64) {
        Box::pin(whole(watched, MAX_BUFFERED_BODY_BYTES.saturating_mul(2), head)).await?
    } else {
        if fills_body {
            head.headers.remove(CONTENT_LENGTH);
        }
        watched
    };
    sign::apply(signed, &mut filler, head, watched.whole()).map_err(|sentence| refuse(host, sentence))?;
    Ok((watched, tripwire))
}

/// Takes a body in whole, filled, so that its length and its digest are known before its head goes out.
async fn whole(
    mut body: Box<Watched>,
    tripwire: &Tripwire,
    limit: usize,
    host: &Host,
    head: &mut Parts,
) -> Result<Box<Watched>, Refusal> {
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Some(data) = frame.ok()?.into_data().ok() else { break };
            bytes.extend_from_slice(&data);
            if bytes.len() > limit {
                return None;
            }
        }
        Some(bytes.freeze())
    };
    let Ok(read) = timeout(BUFFER_TIMEOUT, read).await else {
        let sentence = "the body must be there before its head can be sent, and it did not come in time";
        return Err(Refusal::failed(StatusCode::REQUEST_TIMEOUT, host.to_string(), sentence));
    };
    let Some(bytes) = read else {
        let sentence = "the body must be there before its head can be sent, and it is too large or broke off";
        return Err(tripwire
            .refusal()
            .unwrap_or_else(|| Refusal::failed(StatusCode::PAYLOAD_TOO_LARGE, host.to_string(), sentence)));
    };
    if !bytes.is_empty() || head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    Ok(body.replaced(bytes))
}

fn refuse(host: &Host, sentence: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::denied(StatusCode::BAD_REQUEST, host.to_string(), sentence)
}
