//! The right to a call: a standing grant, or the owner's word on this one, which is waited for.

use crate::book::{Book, Seat};
use crate::keys::Key;
use crate::limits::MAX_WAITING;
use crate::meter::Meter;
use crate::once::Once;
use crate::proxy::Proxy;
use crate::refuse::Refused;
use http::{HeaderMap, HeaderName, StatusCode};
use oauth3_core::{AgentToken, AuditEvent, AuditKind, Execution, Fault, GrantId, RequestId, Status};
use oauth3_policy::{Basis, Decision, Permit, decide, gather};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// What a client prefers (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A right to one call.
#[derive(Debug)]
pub(crate) struct Right {
    pub(crate) seat: Arc<Seat>,
    pub(crate) permit: Permit,
    pub(crate) grant: Option<GrantId>,
    /// What is used of the grant.
    pub(crate) meter: Option<Arc<Meter>>,
    /// The request that the owner said yes to, for this one call. Nobody else can have it.
    pub(crate) once: Option<Once>,
}

/// How long a client waits for the owner.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all: it looks again by itself.
    None,
    /// At most so long.
    For(Duration),
}

impl Patience {
    /// As the client prefers: `respond-async`, `wait=SECONDS`, or nothing.
    pub(crate) fn of(headers: &HeaderMap, usual: Duration) -> Self {
        let texts = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
        let mut patience = Self::For(usual);
        for word in texts.flat_map(|text| text.split([',', ';'])).map(str::trim) {
            match word.split_once('=') {
                None if word.eq_ignore_ascii_case("respond-async") => return Self::None,
                Some((name, seconds)) if name.trim().eq_ignore_ascii_case("wait") => {
                    if let Ok(seconds) = seconds.trim().parse() {
                        patience = Self::For(Duration::from_secs(seconds).min(usual));
                    }
                }
                _ => {}
            }
        }
        patience
    }
}

/// Finds the right to a call, and has the owner asked for it where there is none.
pub(crate) async fn admit(
    proxy: &Proxy,
    token: &AgentToken,
    seat: Arc<Seat>,
    model: Option<&str>,
    patience: Patience,
) -> Result<Right, Refused> {
    if let Some(right) = standing(proxy, &proxy.book(), seat.clone())? {
        return Ok(right);
    }
    // Seldom, and large: not in the memory of each call.
    Box::pin(wait(proxy, token, seat, model, patience)).await
}

/// Under a standing grant.
fn standing(proxy: &Proxy, book: &Book, seat: Arc<Seat>) -> Result<Option<Right>, Refused> {
    match seat.decide(book, proxy.clock.now()) {
        Some(Decision::Permit(permit)) => {
            let held = seat.held.as_ref();
            let (grant, meter) = (held.map(|held| held.grant.id.clone()), held.map(|held| held.meter.clone()));
            Ok(Some(Right { permit, grant, meter, once: None, seat }))
        }
        Some(Decision::Deny(reason)) => Err(Refused::denied(reason.to_string())),
        Some(Decision::Ask(_)) | None => Ok(None),
    }
}

async fn wait(
    proxy: &Proxy,
    token: &AgentToken,
    mut seat: Arc<Seat>,
    model: Option<&str>,
    patience: Patience,
) -> Result<Right, Refused> {
    let _place = proxy.waiting.enter(&seat.agent, MAX_WAITING).ok_or_else(|| {
        let sentence = "too many calls of this agent wait for the owner already";
        Refused { retry_after: Some(30), ..Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", sentence) }
    })?;
    let until = match patience {
        Patience::None => Instant::now(),
        Patience::For(time) => Instant::now() + time,
    };
    let mut asked: Option<RequestId> = None;
    loop {
        // Before anything is read, so that no change between the reading and the waiting is missed.
        let changed = proxy.changed();
        let book = proxy.book();
        seat = book.seat(token, &seat.api).ok_or_else(|| Refused::from(invalid_token()))?;
        if let Some(right) = standing(proxy, &book, seat.clone())? {
            return Ok(right);
        }
        for id in seat.once.clone() {
            if let Some(right) = take_once(proxy, &seat, &id).await? {
                return Ok(right);
            }
        }
        if let Some(id) = &asked {
            let execution = proxy.backing.store().execution(id).await?;
            if let Some(refused) = execution.as_ref().and_then(said_no) {
                return Err(refused);
            }
        } else {
            match proxy.asks.ask(&seat.agent, &seat.api, model).await {
                Ok(id) => asked = Some(id),
                // Somebody was faster: the grant is there, or about to be.
                Err(Fault::AlreadyDecided(_)) => {}
                Err(fault) => return Err(fault.into()),
            }
            if matches!(patience, Patience::None) {
                return Err(pending(asked, StatusCode::ACCEPTED));
            }
            continue;
        }
        if timeout_at(until, changed).await.is_err() {
            return Err(pending(asked, StatusCode::FORBIDDEN));
        }
    }
}

/// The owner has not said anything yet.
fn pending(request: Option<RequestId>, status: StatusCode) -> Refused {
    let id = request.as_ref().map_or("", RequestId::as_str);
    let sentence = format!(
        "the owner was asked for this API and has not answered yet; try again, or look at /execute/{id}/status"
    );
    Refused { request, retry_after: Some(10), ..Refused::new(status, "approval_pending", sentence) }
}

fn said_no(execution: &Execution) -> Option<Refused> {
    let no = matches!(execution.status, Status::Denied | Status::Expired | Status::Cancelled | Status::Failed);
    let why = execution.error.clone().unwrap_or_else(|| execution.status.to_string());
    no.then(|| Refused { request: Some(execution.id.clone()), ..Refused::denied(why) })
}

/// Spends the owner's yes to one call; nothing when somebody else did, or it does not count any more.
async fn take_once(proxy: &Proxy, seat: &Arc<Seat>, id: &RequestId) -> Result<Option<Right>, Refused> {
    let store = proxy.backing.store();
    let Some(mut execution) = store.execution(id).await? else { return Ok(None) };
    let now = proxy.clock.now();
    let mine = execution.intent.agent == seat.agent
        && execution.intent.access.as_ref().is_some_and(|access| access.api == seat.api.id)
        && execution.status == Status::Approved
        && now < execution.expires_at;
    if !mine {
        return Ok(None);
    }
    let gathered = gather(store, &execution.intent, Some(&execution)).await?;
    let permit = match decide(&gathered.stored(&execution, now)) {
        Decision::Permit(permit) if *permit.basis() == Basis::Verdict => permit,
        _ => return Ok(None),
    };
    let event = AuditEvent::new(AuditKind::Granted, format!("agent:{}", seat.agent)).request(id).agent(&seat.agent);
    let event = event.with("api", seat.api.id.as_str()).with("basis", "verdict");
    execution.status = Status::Executing;
    execution.executed_at = Some(now);
    // To its end, whoever hangs up meanwhile: a yes that was spent is always somebody's, who ends its request.
    let shared = proxy.shared();
    let spending = tokio::spawn(async move {
        let taken = shared.backing.record_and_move(&[event], &execution, Status::Approved).await?;
        Ok::<_, Fault>(taken.then(|| Once::new(shared, execution.id)))
    });
    let once = spending.await.map_err(|_| Fault::Unavailable("the proxy stops".to_owned()))??;
    Ok(once.map(|once| Right { seat: seat.clone(), permit, grant: None, meter: None, once: Some(once) }))
}

/// What whoever has no valid token is told.
pub(crate) fn invalid_token() -> Fault {
    Fault::InvalidToken("this token is not valid; use the agent's token (oa3_…) as the API key".to_owned())
}

impl Right {
    /// Returns when something changed that it may rest on, or its time is up: then it is looked at again.
    pub(crate) fn changed(&self, proxy: &Proxy) -> impl Future<Output = ()> + Send + use<> {
        let held = self.seat.held.as_ref().filter(|held| self.grant.as_ref() == Some(&held.grant.id));
        let expires = held.and_then(|held| held.grant.expires_at);
        let left = expires.map(|at| at.since(proxy.clock.now()));
        let changed = proxy.changed();
        async move {
            match left {
                // Both are the same to whoever waits.
                Some(left) => drop(timeout(left, changed).await),
                None => changed.await,
            }
        }
    }

    /// Whether it still is one, with this key.
    pub(crate) fn stands(&self, proxy: &Proxy, key: Option<&Key>) -> bool {
        let book = proxy.book();
        if book.is_switched_off() {
            return false;
        }
        let Some(seat) = book.seat_of(&self.seat.agent, &self.seat.api) else { return false };
        // A token that was renewed is the same right.
        let same = |key: &Key, other: &Key| key.version == other.version || key.secret.connection().is_some();
        let same_key = |key: &Key| seat.keys.iter().any(|other| other.secret == key.secret && same(key, other));
        let granted = match (&self.grant, &seat.held) {
            (Some(id), Some(held)) => {
                held.grant.id == *id && held.grant.expires_at.is_none_or(|at| proxy.clock.now() < at)
            }
            (Some(_), None) => false,
            (None, _) => true,
        };
        granted && key.is_none_or(same_key)
    }
}
