//! Final states: the only places where a request reaches one.

use crate::Broker;
use oauth3_core::{AuditEvent, AuditKind, Execution, Fault, RunResult, Status};
use oauth3_policy::DenyReason;

impl Broker {
    /// Puts a request into a final state, tells everybody, and wakes its agent. `None` when somebody was first.
    pub(crate) async fn settle(
        &self,
        execution: Execution,
        from: Status,
        to: Status,
        error: Option<String>,
    ) -> Result<Option<Execution>, Fault> {
        let next = Execution { status: to, error, finished_at: Some(self.now()), ..execution };
        if !self.ports.store.transition(&next, from).await? {
            return Ok(None);
        }
        self.changed(&next);
        self.wake_agent(&next);
        Ok(Some(next))
    }

    /// Nobody said anything in time.
    pub(crate) async fn expire(&self, execution: Execution) -> Result<Execution, Fault> {
        let (what, error) = match execution.status {
            Status::AwaitingSecrets => ("secret", "expired: a secret was not added in time"),
            _ => ("verdict", "expired: nobody answered in time"),
        };
        let event = AuditEvent::new(AuditKind::Expired, "gateway").request(&execution.id);
        self.record_if_possible(event.agent(&execution.intent.agent).with("waited_for", what)).await;
        let (id, from) = (execution.id.clone(), execution.status);
        match self.settle(execution, from, Status::Expired, Some(error.to_owned())).await? {
            Some(expired) => Ok(expired),
            None => self.load(&id).await,
        }
    }

    /// A request that was approved and may not go on.
    pub(crate) async fn withdraw(&self, execution: Execution, reason: DenyReason) -> Result<(), Fault> {
        match reason {
            // It is denied now, and the switch may be turned back while it still has time.
            DenyReason::KillSwitch => Ok(()),
            DenyReason::Expired => self.expire(execution).await.map(drop),
            _ => {
                let event = AuditEvent::new(AuditKind::Refused, "gateway").request(&execution.id);
                let event = event.agent(&execution.intent.agent).with("reason", reason.to_string());
                self.record_if_possible(event).await;
                let from = execution.status;
                self.settle(execution, from, Status::Denied, Some(format!("denied: {reason}"))).await.map(drop)
            }
        }
    }

    /// A request that could not run, or did not end well.
    pub(crate) async fn fail(&self, execution: Execution, error: String) -> Result<Execution, Fault> {
        self.finish(execution, Status::Failed, None, Some(error)).await
    }

    /// The end of a run, or of what should have been one.
    pub(crate) async fn finish(
        &self,
        execution: Execution,
        to: Status,
        result: Option<RunResult>,
        error: Option<String>,
    ) -> Result<Execution, Fault> {
        let event = AuditEvent::new(AuditKind::Finished, "gateway").request(&execution.id);
        let event = event.agent(&execution.intent.agent).with("status", to.as_str());
        self.record_if_possible(match &result {
            Some(result) => event.with("exit_code", result.exit_code).with("duration_ms", result.duration_ms),
            None => event,
        })
        .await;
        let (id, from) = (execution.id.clone(), execution.status);
        match self.settle(Execution { result, ..execution }, from, to, error).await? {
            Some(finished) => Ok(finished),
            None => self.load(&id).await,
        }
    }

    /// Wakes the agent about a final state, in the background.
    pub(crate) fn wake_agent(&self, execution: &Execution) {
        let (waker, id, status) = (self.waker.clone(), execution.id.clone(), execution.status);
        self.spawn(async move { waker.wake(&id, status).await });
    }
}
