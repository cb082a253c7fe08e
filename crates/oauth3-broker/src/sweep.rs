//! The owner takes rights away: grants, agents, secrets, everything. These work even when the audit cannot be written;
//! only a token is not replaced then, for that gives a right too.

use crate::Broker;
use crate::intake::no_randomness;
use crate::runs::EndReason;
use oauth3_core::{AgentName, AgentToken, AuditEvent, AuditKind, Execution, Fault, GrantId, SecretName, Status};

/// Open requests that are gone through.
const MAX_OPEN: u32 = 10_000;

impl Broker {
    /// Revokes a grant; what relied on it ends.
    pub(crate) async fn take_grant(&self, id: &GrantId, by: &str) -> Result<(), Fault> {
        let desk = self.desk.lock().await;
        let store = &self.ports.store;
        let unknown = || Fault::NotFound("there is no such grant, or it was revoked before".to_owned());
        let grant = store.grant(id).await?.filter(|grant| grant.revoked_at.is_none()).ok_or_else(unknown)?;
        let event = AuditEvent::new(AuditKind::GrantChanged, by).agent(&grant.intent.agent);
        self.record_if_possible(event.with("grant_id", id.as_str()).with("change", "revoked")).await;
        if !store.revoke_grant(id, self.now()).await? {
            return Err(unknown());
        }
        let error = EndReason::GrantRevoked.sentence();
        let closed =
            self.close_open(Status::Denied, error, by, |execution| execution.grant_id.as_ref() == Some(id)).await;
        let gone = self.runs.end_grant(id);
        drop(desk);
        self.refresh_proxy().await;
        gone.wait().await;
        closed
    }

    /// Revokes an agent; its open requests and runs end.
    pub(crate) async fn take_agent(&self, name: &AgentName, by: &str) -> Result<(), Fault> {
        let desk = self.desk.lock().await;
        if self.ports.store.agent(name).await?.is_none() {
            return Err(Fault::NotFound(format!("there is no agent {name}; see: oauth3 agent list")));
        }
        let event = AuditEvent::new(AuditKind::AgentChanged, by).agent(name).with("change", "revoked");
        self.record_if_possible(event).await;
        self.ports.store.revoke_agent(name, self.now()).await?;
        let error = EndReason::AgentRevoked.sentence();
        let closed = self.close_open(Status::Denied, error, by, |execution| execution.intent.agent == *name).await;
        let gone = self.runs.end_agent(name);
        drop(desk);
        self.refresh_proxy().await;
        gone.wait().await;
        closed
    }

    /// Gives an agent another token; the one before is nobody's.
    pub(crate) async fn replace_token(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault> {
        let active = self.ports.store.agent(name).await?.is_some_and(|agent| agent.revoked_at.is_none());
        if !active {
            return Err(Fault::NotFound(format!("there is no active agent {name}; see: oauth3 agent list")));
        }
        let token = AgentToken::random().ok_or_else(no_randomness)?;
        self.record(AuditEvent::new(AuditKind::AgentChanged, by).agent(name).with("change", "rotated")).await?;
        self.ports.store.replace_token(name, &token.id(), &token.hash(), self.now()).await?;
        self.refresh_proxy().await;
        Ok(token)
    }

    /// Removes a secret.
    pub(crate) async fn take_secret(&self, name: &SecretName, by: &str) -> Result<(), Fault> {
        if let Some(connection) = name.connection() {
            let text = format!("a token goes by signing out: oauth3 logout {}", connection.name());
            return Err(Fault::InvalidRequest(text));
        }
        let known = self.ports.store.secrets().await?;
        if !known.iter().any(|secret| secret.name == *name) {
            return Err(Fault::NotFound(format!("there is no secret {name}; see: oauth3 secret list")));
        }
        let event = AuditEvent::new(AuditKind::SecretChanged, by);
        self.record_if_possible(event.with("name", name.as_str()).with("change", "removed")).await;
        self.ports.store.remove_secret(name).await?;
        self.secrets_changed().await;
        Ok(())
    }

    /// Turns the kill switch. On: everything open is denied and everything that runs ends.
    pub(crate) async fn turn_kill_switch(&self, on: bool, by: &str) -> Result<(), Fault> {
        let desk = self.desk.lock().await;
        let event = AuditEvent::new(AuditKind::KillSwitch, by).with("on", on);
        if !on {
            self.record(event).await?;
            self.ports.store.set_kill_switch(false).await?;
            self.refresh_proxy().await;
            return Ok(());
        }
        // The switch itself comes first: it must not wait for a keeper that hangs.
        self.ports.store.set_kill_switch(true).await?;
        let gone = self.runs.end_all(EndReason::KillSwitch);
        self.record_if_possible(event).await;
        let closed = self.close_open(Status::Denied, EndReason::KillSwitch.sentence(), by, |_| true).await;
        drop(desk);
        self.refresh_proxy().await;
        gone.wait().await;
        closed
    }

    /// Puts open requests into a final state.
    async fn close_open(
        &self,
        to: Status,
        error: &str,
        by: &str,
        which: impl Fn(&Execution) -> bool,
    ) -> Result<(), Fault> {
        let open = self.ports.store.executions(&[Status::Pending, Status::AwaitingSecrets], MAX_OPEN).await?;
        for execution in open.into_iter().filter(which) {
            let event = AuditEvent::new(AuditKind::Denied, by).request(&execution.id).agent(&execution.intent.agent);
            self.record_if_possible(event.with("reason", error)).await;
            let from = execution.status;
            let next = Execution { decided_by: Some(by.to_owned()), ..execution };
            self.settle(next, from, to, Some(error.to_owned())).await?;
        }
        Ok(())
    }
}
