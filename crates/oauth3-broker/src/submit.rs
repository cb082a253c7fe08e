//! A request comes in: it is decided on, and then run, put to the owner, or refused.

use crate::Broker;
use crate::intake::{Order, described};
use crate::rate::Pace;
use oauth3_core::{
    AgentName, AuditEvent, AuditKind, Digest, Draft, DryRun, Execution, Fault, SecretName, Status, Submitted, Timestamp,
};
use oauth3_policy::{AskReason, Decision, DenyReason, Gathered, Load, decide, gather};
use std::time::Duration;

/// When an agent whose requests all wait for the owner may try again.
const OPEN_RETRY_AFTER: Duration = Duration::from_secs(30);

impl Broker {
    /// Takes a request in, decides, and then runs it, asks the owner, or refuses.
    pub(crate) async fn take_request(&self, agent: &AgentName, draft: Draft) -> Result<Submitted, Fault> {
        let taken = async {
            self.runs_code()?;
            let calls = self.admit(agent).await?;
            let order = self.take_in(agent, draft).await?;
            self.to_the_end(async move |broker| broker.decide_on(order, calls).await).await
        };
        let taken = taken.await;
        match &taken {
            Ok(submitted) => {
                let execution = &submitted.execution;
                tracing::info!(%agent, request = %execution.id, status = %execution.status, "a request came in");
            }
            Err(fault) => tracing::info!(%agent, code = fault.code(), "a request was refused"),
        }
        taken
    }

    async fn decide_on(&self, mut order: Order, calls: u32) -> Result<Submitted, Fault> {
        let layer = order.layer.take();
        let _desk = self.desk.lock().await;
        let now = self.now();
        let gathered = gather(&*self.ports.store, &order.intent, None).await?;
        let load = self.load_of(&gathered, calls);
        let missing_secrets = gathered.missing().to_vec();

        let execution = match decide(&gathered.submitted(&order.intent, load, now)) {
            Decision::Permit(permit) => {
                let execution = self.under_grant(order, &gathered, Status::Approved, now)?;
                // The keeper records the grant together with the run, before anything is in the sandbox.
                let making = self.make_sandbox(&permit, &execution);
                self.keep(&execution, layer.as_deref()).await?;
                self.changed(&execution);
                self.begin_run_in(making, permit, execution.clone());
                execution
            }
            Decision::Ask(reason) => {
                let execution = match reason {
                    AskReason::NoGrant => order.into_execution(now, self.config.pending_for)?,
                    AskReason::SecretsMissing => self.under_grant(order, &gathered, Status::AwaitingSecrets, now)?,
                };
                let missing = text_of(&missing_secrets);
                self.record(about(AuditKind::Asked, &execution).with("missing_secrets", missing)).await?;
                self.keep(&execution, layer.as_deref()).await?;
                self.changed(&execution);
                if execution.status == Status::AwaitingSecrets {
                    self.begin_missing(&execution, &missing_secrets);
                }
                execution
            }
            Decision::Deny(reason) => {
                let refused = AuditEvent::new(AuditKind::Refused, actor(&order.intent.agent));
                self.record(described(refused, &order.intent).with("reason", reason.to_string())).await?;
                return Err(refusal(reason));
            }
        };
        Ok(Submitted { execution, missing_secrets, asked: self.asked() })
    }

    /// Stores a request, and before it what it imports from elsewhere.
    async fn keep(&self, execution: &Execution, layer: Option<&[u8]>) -> Result<(), Fault> {
        if let Some(layer) = layer {
            let needed = self.needed_layers().await?;
            self.ports.store.put_layer(&Digest::of(layer), layer, &needed).await?;
        }
        self.ports.store.insert_execution(execution).await
    }

    /// Says what would happen; leaves nothing but the audit.
    pub(crate) async fn foretell(&self, agent: &AgentName, draft: Draft) -> Result<DryRun, Fault> {
        let (calls, order) = match self.admit(agent).await {
            Ok(calls) => (calls, self.take_in(agent, draft).await?),
            // What policy refuses is the very answer.
            Err(Fault::DeniedByPolicy(reason)) => {
                let event = AuditEvent::new(AuditKind::DryRun, actor(agent)).agent(agent);
                self.record(event.with("decision", "deny").with("reason", reason.as_str())).await?;
                return Ok(DryRun { decision: "deny".to_owned(), reason, missing_secrets: Vec::new() });
            }
            Err(fault) => return Err(fault),
        };
        let gathered = gather(&*self.ports.store, &order.intent, None).await?;
        let load = self.load_of(&gathered, calls);
        let (decision, reason) = match decide(&gathered.submitted(&order.intent, load, self.now())) {
            Decision::Permit(_) => ("permit", "a standing grant covers this".to_owned()),
            Decision::Ask(reason) => ("ask", reason.to_string()),
            Decision::Deny(reason) => ("deny", reason.to_string()),
        };
        let event = described(AuditEvent::new(AuditKind::DryRun, actor(agent)), &order.intent);
        self.record(event.with("decision", decision).with("reason", reason.as_str())).await?;
        Ok(DryRun { decision: decision.to_owned(), reason, missing_secrets: gathered.missing().to_vec() })
    }

    /// Before anything is read or fetched for it: may this agent ask at all now? The whole decision comes later.
    pub(crate) async fn admit(&self, agent: &AgentName) -> Result<u32, Fault> {
        let pace = self.rate.count(agent, self.config.requests_per_minute, self.now());
        let refuse = async |reason: DenyReason| {
            let event = AuditEvent::new(AuditKind::Refused, actor(agent)).agent(agent);
            self.record(event.with("reason", reason.to_string())).await
        };
        match pace {
            Pace::Over { retry_after, first } => {
                // One row for each time that it begins; a flood must not fill the audit.
                if first {
                    refuse(DenyReason::TooManyCalls).await?;
                }
                Err(Fault::RateLimited { text: DenyReason::TooManyCalls.to_string(), retry_after })
            }
            Pace::Within(_) if self.ports.store.kill_switch().await? => {
                refuse(DenyReason::KillSwitch).await?;
                Err(refusal(DenyReason::KillSwitch))
            }
            Pace::Within(calls) => Ok(calls),
        }
    }

    pub(crate) const fn load_of(&self, gathered: &Gathered, calls: u32) -> Load {
        Load {
            calls_last_minute: calls,
            calls_per_minute: self.config.requests_per_minute,
            open_requests: gathered.open_requests(),
            open_requests_max: self.config.pending_per_agent,
        }
    }

    /// A request that a standing grant covers.
    fn under_grant(
        &self,
        order: Order,
        gathered: &Gathered,
        status: Status,
        now: Timestamp,
    ) -> Result<Execution, Fault> {
        let mut execution = order.into_execution(now, self.config.pending_for)?;
        execution.status = status;
        execution.trusted = true;
        execution.approved_at = Some(now);
        execution.trust = gathered.grant().map(|grant| grant.trust);
        execution.grant_id = gathered.grant().map(|grant| grant.id.clone());
        execution.decided_by = gathered.grant().map(|grant| grant.granted_by.clone());
        Ok(execution)
    }
}

/// An audit event about a request, by its agent.
pub(crate) fn about(kind: AuditKind, execution: &Execution) -> AuditEvent {
    let event = AuditEvent::new(kind, actor(&execution.intent.agent)).request(&execution.id);
    let event = described(event, &execution.intent);
    match &execution.grant_id {
        Some(id) => event.with("grant_id", id.as_str()),
        None => event,
    }
}

/// An agent, as the audit names it.
pub(crate) fn actor(agent: &AgentName) -> String {
    format!("agent:{agent}")
}

fn text_of(names: &[SecretName]) -> Vec<&str> {
    names.iter().map(|name| name.as_str()).collect()
}

/// The fault for what policy refuses.
pub(crate) fn refusal(reason: DenyReason) -> Fault {
    let text = reason.to_string();
    match reason {
        DenyReason::TooManyOpen => Fault::RateLimited { text, retry_after: OPEN_RETRY_AFTER.as_secs() },
        DenyReason::TooManyCalls => Fault::RateLimited { text, retry_after: 60 },
        DenyReason::Expired | DenyReason::NotApproved => Fault::AlreadyDecided(text),
        DenyReason::KillSwitch
        | DenyReason::AgentInactive
        | DenyReason::GrantGone
        | DenyReason::RevealChanged
        | DenyReason::RevealOnce => Fault::DeniedByPolicy(text),
    }
}
