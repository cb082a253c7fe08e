//! One request, from the code to the host and back. Read [`exchange`] from top to bottom.

use crate::body::{Body, Reading, Scrubbed};
use crate::decode::Decoder;
use crate::fill::{self, Tripwire};
use crate::hygiene;
use crate::limits::{DECODERS_TIMEOUT, DECODERS_UNIT_BYTES, DRAIN_TIMEOUT, MAX_DRAIN_BYTES, REPLY_TIMEOUT};
use crate::reply::Refusal;
use crate::rules::Bars;
use crate::run::Run;
use crate::serve::refused;
use crate::target::{Entry, target};
use crate::upstream::{Kept, Sender, send};
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use oauth3_core::Host;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::timeout;

/// Answers one request of the code.
pub(crate) async fn answer(run: &Arc<Run>, entry: &Entry, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    match exchange(run, entry, head, &mut body).await {
        Ok(reply) => reply,
        Err(refusal) => {
            let response = refused(run, refusal).await;
            if let Some(rest) = body.filter(|body| !body.is_end_stream()) {
                run.tasks.spawn(drain(rest));
            }
            response
        }
    }
}

async fn exchange(
    run: &Arc<Run>,
    entry: &Entry,
    mut head: Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (host, bars) = prepare(run, entry, &mut head)?;
    // Where a token may have to be renewed.
    let unfilled = run.leases.iter().any(|lease| lease.name.connection().is_some()).then(|| head.clone());
    let (watched, tripwire) = fill::fill(run, &host, &bars, &mut head, body).await?;
    let spare = unfilled.and_then(|unfilled| Some((unfilled, watched.again()?)));
    let in_time = |sent: Result<Result<_, Refusal>, _>| {
        let sentence = "the host did not answer in time";
        let late = |_| Refusal::failed(StatusCode::GATEWAY_TIMEOUT, host.to_string(), sentence);
        sent.unwrap_or_else(|elapsed| Err(late(elapsed)))
    };
    let sent = {
        // Where it stands, for it is large.
        let sending = pin!(send(run, &host, head, watched));
        in_time(timeout(REPLY_TIMEOUT, sending).await)
    };
    let (mut reply, mut sender) = sent.map_err(|refusal| tripped(&tripwire, body).unwrap_or(refusal))?;
    if reply.status() == StatusCode::UNAUTHORIZED
        && let Some((unfilled, again)) = spare
        && let Some(head) = Box::pin(fill::refill(run, &host, &bars, unfilled)).await
    {
        // The reply that is not wanted goes with its connection.
        (reply, sender) = in_time(timeout(REPLY_TIMEOUT, Box::pin(send(run, &host, head, again))).await)?;
    }
    hand_back(run, host, reply, sender).await
}

/// Finds the host of a request and makes the head fit to be filled: checked, without what belongs to the code's own
/// connection, with an address and a Host field that are the host's own. Also says which placeholders end it.
pub(crate) fn prepare(run: &Run, entry: &Entry, head: &mut Parts) -> Result<(Host, Arc<Bars>), Refusal> {
    run.meter.request(head)?;
    let host = target(entry, head, &run.hosts)?;
    hygiene::check_request(head).map_err(|refusal| Refusal { host: host.to_string(), ..refusal })?;
    let bars = Arc::new(Bars::of(run.held(), &host, head));
    fill::inspect(run.held(), &bars, head).map_err(|barred| run.barred(barred.0, barred.1, &host))?;

    hygiene::clean_request(&mut head.headers);
    if !run.leases.is_empty() {
        hygiene::ask_for_plain(&mut head.headers, run.may_know_secrets(&host));
    }
    head.extensions.clear();
    head.uri = Uri::from(head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.headers.insert(HOST, run.authorities.get(&host).ok_or_else(|| broken(&host))?.clone());
    Ok((host, bars))
}

/// Turns the host's reply into the code's: nothing in it that could be a secret, or that cannot be read.
pub(crate) async fn hand_back(
    run: &Arc<Run>,
    host: Host,
    reply: Response<Incoming>,
    sender: Sender,
) -> Result<Response<Body>, Refusal> {
    let (mut head, body) = reply.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), "the host wants another protocol"));
    }
    let reading = reading(run, &host, &mut head.headers).await?;
    hygiene::clean_reply(&mut head.headers);
    head.version = Version::HTTP_11;
    let reason = head.extensions.remove::<ReasonPhrase>();
    head.extensions.clear();
    if reading.scrub.is_some() {
        run.scrub_fields(&mut head.headers);
    }
    if let Some(reason) = reason.and_then(|r| ReasonPhrase::try_from(run.scrubber().scrub(r.as_bytes())).ok()) {
        head.extensions.insert(reason);
    }
    let body = Scrubbed::new(body, reading, Kept { run: Arc::clone(run), host: host.clone(), sender });
    let unreadable = |error| Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), format!("{error}"));
    let body = body.begun().await.map_err(unreadable)?;
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

/// How a reply with these fields is read, which from then on say what the code gets. A reply of a host that may know
/// a secret is decoded; one that cannot be is refused. Other hosts' replies pass as they are.
async fn reading(run: &Run, host: &Host, headers: &mut HeaderMap) -> Result<Reading, Refusal> {
    let scrub = (!run.leases.is_empty()).then(|| run.scrubber().stream());
    let refuse = |sentence| Err(Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), sentence));
    if !run.may_know_secrets(host) {
        return Ok(Reading { scrub, decode: None });
    }
    let Some(codings) = hygiene::codings(headers) else {
        return refuse("a secret is bound to the host, and its reply is in an encoding that cannot be scrubbed");
    };
    if codings.is_identity() {
        return Ok(Reading { scrub, decode: None });
    }
    let memory = codings.memory_bytes().div_ceil(DECODERS_UNIT_BYTES);
    let place = Arc::clone(&run.decoders).acquire_many_owned(u32::try_from(memory).unwrap_or(u32::MAX));
    let Ok(Ok(place)) = timeout(DECODERS_TIMEOUT, place).await else {
        return refuse("too many compressed replies are being read at once; read some to their end first");
    };
    hygiene::say_decoded(headers);
    Ok(Reading { scrub, decode: Some((Decoder::new(&codings), place)) })
}

/// The refusal for a body that ended for a reason of ours, whose rest is put back to be drained.
fn tripped(tripwire: &Tripwire, body: &mut Option<Incoming>) -> Option<Refusal> {
    *body = tripwire.rest();
    tripwire.refusal()
}

fn broken(host: &Host) -> Refusal {
    Refusal::failed(StatusCode::BAD_REQUEST, host.to_string(), "the request cannot be sent on")
}

/// Reads some more of a refused request's body: code that is still writing would otherwise see a broken
/// connection in place of the answer.
async fn drain(mut body: Incoming) {
    let read = async {
        let mut left = MAX_DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(DRAIN_TIMEOUT, read).await;
}
