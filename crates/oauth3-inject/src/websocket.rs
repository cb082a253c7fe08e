//! WebSocket (RFC 6455): the opening handshake, twice, and frames that are looked at on their way.
//!
//! The handshake is a request like any other: its host is checked, its fields may hold placeholders, uses are
//! recorded before a value leaves. The key toward the host is our own, and so is the proof toward the code, so
//! that neither side can pass off something else as a handshake. No extension is agreed on, for what is
//! compressed cannot be scrubbed.
//!
//! [`Opening`] and [`carry`] are for the API proxy too, which has grants where a run has placeholders.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod inspect;
mod opening;
mod pipe;
mod relay;
mod utf8;

pub use opening::Opening;
pub use relay::Traffic;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::fuzz;

use crate::body::Body;
use crate::fill;
use crate::forward::{hand_back, prepare};
use crate::limits::{HANDSHAKE_TIMEOUT, REPLY_TIMEOUT};
use crate::reply::{Refusal, connected};
use crate::run::Run;
use crate::serve::{Place, refused};
use crate::target::Entry;
use crate::upstream::{self, Sender};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use inspect::{Passing, Scrubbing, Watching};
use oauth3_core::Host;
use oauth3_vault::Scrubber;
use relay::relay;
use std::future::{Future, pending};
use std::sync::Arc;
use tokio::time::timeout;

/// Carries frames between a client and a host that both have agreed, until either ends it, nothing came from either for
/// too long, or `until` is ready, which both are then told. What the host sends is scrubbed, across the fragments of a
/// message. Says what went through.
pub async fn carry(
    client: OnUpgrade,
    host: OnUpgrade,
    scrubber: Option<Scrubber>,
    until: impl Future<Output = ()> + Send,
) -> Traffic {
    let Some((client, host)) = switched(client, host).await else { return Traffic::default() };
    let scrubbing = Scrubbing::new(scrubber.map(|scrubber| move || scrubber.clone()));
    relay(client, host, Passing, scrubbing, until).await
}

/// Opens a WebSocket to the host that the request names, and answers the code when the host has agreed. Any other
/// answer of the host is handed back as it is for any request.
pub(crate) async fn open(
    run: &Arc<Run>,
    entry: &Entry,
    place: &Place,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    match handshake(run, entry, place, head, body, upgrade).await {
        Ok(reply) => reply,
        Err(refusal) => refused(run, refusal).await,
    }
}

async fn handshake(
    run: &Arc<Run>,
    entry: &Entry,
    place: &Place,
    mut head: Parts,
    body: Incoming,
    upgrade: OnUpgrade,
) -> Result<Response<Body>, Refusal> {
    let mut opening = Opening::take(&mut head).map_err(|(status, sentence)| Refusal::denied(status, "", sentence))?;
    let (host, bars) = prepare(run, entry, &mut head)?;
    let (watched, _) = fill::fill(run, &host, &bars, &mut head, &mut Some(body)).await?;
    let failed = |sentence: &'static str| Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), sentence);
    opening.ask(&mut head.headers).map_err(failed)?;

    let asked = upstream::send_alone(run, &host, Request::from_parts(head, watched));
    let (mut reply, sender) = timeout(REPLY_TIMEOUT, asked).await.unwrap_or_else(|_| {
        let sentence = "the host did not answer in time";
        Err(Refusal::failed(StatusCode::GATEWAY_TIMEOUT, host.to_string(), sentence))
    })?;
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        return hand_back(run, host, reply, sender).await;
    }
    let answer = opening.answer(reply.headers()).map_err(failed)?;
    let upstream = hyper::upgrade::on(&mut reply);
    run.tasks.spawn(carry_of(Arc::clone(run), host, Arc::clone(place), sender, upgrade, upstream));
    let (head, ()) = answer.into_parts();
    Ok(Response::from_parts(head, connected().into_body()))
}

/// Carries the frames of a run's WebSocket.
async fn carry_of(run: Arc<Run>, host: Host, place: Place, sender: Sender, code: OnUpgrade, upstream: OnUpgrade) {
    // Both count toward the bounds of the run for as long as the connection stands.
    let _held = (place, sender);
    let Some((code, upstream)) = switched(code, upstream).await else { return };
    let watching = Watching::new(&run, &host);
    let scrubbing = Scrubbing::new((!run.leases.is_empty()).then_some(move || run.scrubber()));
    // The run's own end ends this task.
    relay(code, upstream, watching, scrubbing, pending()).await;
}

/// Waits until both sides have switched; nothing when one does not.
async fn switched(client: OnUpgrade, host: OnUpgrade) -> Option<(TokioIo<Upgraded>, TokioIo<Upgraded>)> {
    match timeout(HANDSHAKE_TIMEOUT, async { tokio::try_join!(client, host) }).await {
        Ok(Ok((client, host))) => return Some((TokioIo::new(client), TokioIo::new(host))),
        Ok(Err(error)) => tracing::debug!(%error, "the upgrade was not followed"),
        Err(_) => tracing::debug!("the upgrade took too long"),
    }
    None
}
