//! The owner decides on one request; and requests that were decided go on when their secrets are there.

use crate::Broker;
use crate::intake::no_randomness;
use crate::submit::refusal;
use oauth3_core::{
    AuditEvent, AuditKind, Execution, Fault, Grant, GrantId, RequestId, Status, Timestamp, Trust, Verdict,
};
use oauth3_policy::{Decision, decide, gather};

/// Longest reason that is kept of a no, in characters.
const MAX_REASON_CHARS: usize = 500;
/// Requests that are looked at in one go when secrets changed.
const MAX_AWAITING: u32 = 10_000;

impl Broker {
    /// One verdict on one request, in time. Of two, the first counts; but a yes that still waits for a secret may be
    /// taken back.
    pub(crate) async fn decide_request(&self, id: &RequestId, verdict: Verdict, by: &str) -> Result<Execution, Fault> {
        let _desk = self.desk.lock().await;
        let (execution, now) = (self.load(id).await?, self.now());
        let open = match &verdict {
            Verdict::Approve { .. } => execution.status == Status::Pending,
            Verdict::Deny { .. } => execution.status.is_open(),
        };
        if !open {
            return Err(already_decided(&execution));
        }
        if now >= execution.expires_at {
            return Err(already_decided(&self.expire(execution).await?));
        }
        match verdict {
            Verdict::Deny { reason } => self.deny(execution, reason, by).await,
            Verdict::Approve { trust } => self.approve(execution, trust, by, now).await,
        }
    }

    async fn deny(&self, execution: Execution, reason: Option<String>, by: &str) -> Result<Execution, Fault> {
        let reason: Option<String> = reason.map(|r| r.trim().chars().take(MAX_REASON_CHARS).collect());
        let event = AuditEvent::new(AuditKind::Denied, by).request(&execution.id).agent(&execution.intent.agent);
        self.record(match &reason {
            Some(reason) => event.with("reason", reason.as_str()),
            None => event,
        })
        .await?;
        let error = match reason.filter(|reason| !reason.is_empty()) {
            Some(reason) => format!("denied: {reason}"),
            None => "denied: the owner said no".to_owned(),
        };
        let from = execution.status;
        let next = Execution { decided_by: Some(by.to_owned()), ..execution };
        let denied = self.settle(next, from, Status::Denied, Some(error)).await?.ok_or_else(lost_race)?;
        // The grant that came with a yes which is taken back goes with it; one that stood before stays.
        if let Some(grant) = denied.grant_id.as_ref().filter(|_| !denied.trusted) {
            let event = AuditEvent::new(AuditKind::GrantChanged, by).agent(&denied.intent.agent);
            self.record_if_possible(event.with("grant_id", grant.as_str()).with("change", "revoked")).await;
            self.ports.store.revoke_grant(grant, self.now()).await?;
        }
        Ok(denied)
    }

    async fn approve(&self, execution: Execution, trust: Trust, by: &str, now: Timestamp) -> Result<Execution, Fault> {
        self.runs_code()?;
        let gathered = gather(&*self.ports.store, &execution.intent, Some(&execution)).await?;
        if let Decision::Deny(reason) = decide(&gathered.stored(&execution, now)) {
            return Err(refusal(reason));
        }
        let grant = standing(&execution, trust, by, now)?;
        let from = execution.status;
        let next = Execution {
            status: if gathered.missing().is_empty() { Status::Approved } else { Status::AwaitingSecrets },
            trust: Some(trust),
            approved_at: Some(now),
            decided_by: Some(by.to_owned()),
            grant_id: grant.as_ref().map(|grant| grant.id.clone()),
            ..execution
        };
        // A verdict that could not be carried out is not taken: the request waits for another one.
        if let Decision::Deny(reason) = decide(&gathered.stored(&next, now)) {
            return Err(refusal(reason));
        }
        let event = AuditEvent::new(AuditKind::Approved, by)
            .request(&next.id)
            .agent(&next.intent.agent)
            .with("trust", trust.as_str())
            .with("intent_digest", next.intent_digest.to_string());
        self.record(match &grant {
            Some(grant) => event.with("grant_id", grant.id.as_str()),
            None => event,
        })
        .await?;

        if !self.ports.store.transition(&next, from).await? {
            return Err(lost_race());
        }
        match self.go(next.clone(), grant).await {
            Ok(execution) => {
                self.begin_missing(&execution, gathered.missing());
                Ok(execution)
            }
            Err(fault) => {
                // It must not stay approved with nobody to run it.
                self.fail(next, format!("failed: it could not be run: {fault}")).await?;
                Err(fault)
            }
        }
    }

    /// Secrets came, changed or went: every request that waited for the last one of its own goes on, and open ones
    /// are shown with what is missing now.
    pub async fn secrets_changed(&self) {
        if self.runs_code().is_err() {
            return;
        }
        self.refresh_proxy().await;
        let resumed = self.to_the_end(async move |broker| {
            let _desk = broker.desk.lock().await;
            for execution in broker.ports.store.executions(&[Status::AwaitingSecrets], MAX_AWAITING).await? {
                broker.resume(execution).await?;
            }
            let pending = broker.ports.store.executions(&[Status::Pending], MAX_AWAITING).await?;
            pending.iter().filter(|execution| !execution.intent.secrets.is_empty()).for_each(|e| broker.changed(e));
            Ok(())
        });
        if let Err(fault) = resumed.await {
            tracing::error!(%fault, "requests that wait for secrets could not be resumed; they are tried again later");
        }
    }

    async fn resume(&self, execution: Execution) -> Result<(), Fault> {
        let gathered = gather(&*self.ports.store, &execution.intent, Some(&execution)).await?;
        let permit = match decide(&gathered.stored(&execution, self.now())) {
            Decision::Permit(permit) => permit,
            Decision::Ask(_) => {
                // One of several came: who shows the request shows what is missing now.
                self.changed(&execution);
                return Ok(());
            }
            Decision::Deny(reason) => return self.withdraw(execution, reason).await,
        };
        let next = Execution { status: Status::Approved, ..execution };
        if self.ports.store.transition(&next, Status::AwaitingSecrets).await? {
            self.changed(&next);
            self.begin_run(permit, next);
        }
        Ok(())
    }

    /// Goes on with what was just approved: its grant is stored, and it runs if the decision on it is yes.
    async fn go(&self, execution: Execution, grant: Option<Grant>) -> Result<Execution, Fault> {
        if let Some(grant) = &grant {
            // Without its grant the request cannot run either: a grant that cannot be found counts as revoked.
            if grant.intent.access.is_some() {
                self.replace_access(grant).await?;
            } else {
                self.ports.store.insert_grant(grant).await?;
            }
        }
        if execution.intent.access.is_some() {
            return self.go_access(execution).await;
        }
        self.changed(&execution);
        if execution.status != Status::Approved {
            return Ok(execution);
        }
        let gathered = gather(&*self.ports.store, &execution.intent, Some(&execution)).await?;
        match decide(&gathered.stored(&execution, self.now())) {
            Decision::Permit(permit) => {
                self.begin_run(permit, execution.clone());
                Ok(execution)
            }
            Decision::Ask(reason) => self.fail(execution, format!("failed: {reason}")).await,
            Decision::Deny(reason) => self.fail(execution, format!("denied: {reason}")).await,
        }
    }
}

/// The grant that this verdict makes; none for once.
fn standing(execution: &Execution, trust: Trust, by: &str, now: Timestamp) -> Result<Option<Grant>, Fault> {
    if trust == Trust::Once {
        return Ok(None);
    }
    Ok(Some(Grant {
        id: GrantId::random().ok_or_else(no_randomness)?,
        intent: execution.intent.clone(),
        trust,
        granted_at: now,
        expires_at: trust.lifetime().map(|lifetime| now.plus(lifetime)),
        revoked_at: None,
        granted_by: by.to_owned(),
    }))
}

/// The fault for whoever comes second.
pub(crate) fn already_decided(execution: &Execution) -> Fault {
    Fault::AlreadyDecided(format!("already decided: this request is {}", execution.status))
}

fn lost_race() -> Fault {
    Fault::AlreadyDecided("already decided".to_owned())
}
