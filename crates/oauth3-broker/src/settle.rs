//! Final states: the only places where a request reaches one.

use crate::Broker;
use oauth3_core::{AuditEvent, AuditKind, Execution, Exit, Fault, RunResult, Status};
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
        if next.intent.access.is_some() {
            // Calls that wait for it hear of it.
            self.refresh_proxy().await;
        }
        Ok(Some(next))
    }

    /// Nobody said anything in time.
    pub(crate) async fn expire(&self, execution: Execution) -> Result<Execution, Fault> {
        let (what, error) = match execution.status {
            Status::Approved => ("call", "expired: the call that was approved was not made in time"),
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

    /// A request that could not run, or whose run is lost.
    pub(crate) async fn fail(&self, execution: Execution, error: String) -> Result<Execution, Fault> {
        self.record_if_possible(finished(&execution, Status::Failed, None)).await;
        self.finish_recorded(execution, Status::Failed, None, Some(error)).await
    }

    /// The end of a run that is in the audit already.
    pub(crate) async fn finish_recorded(
        &self,
        execution: Execution,
        to: Status,
        result: Option<RunResult>,
        error: Option<String>,
    ) -> Result<Execution, Fault> {
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

/// What the audit says of a final state; `exit` of the code, when there was one.
pub(crate) fn finished(execution: &Execution, to: Status, exit: Option<&Exit>) -> AuditEvent {
    let event = AuditEvent::new(AuditKind::Finished, "gateway").request(&execution.id);
    let event = event.agent(&execution.intent.agent).with("status", to.as_str());
    match exit {
        Some(exit) => event
            .with("exit_code", exit.code)
            .with("duration_ms", exit.duration_ms())
            .with("cpu_ms", exit.cpu_ms)
            .with("memory_bytes", exit.memory_bytes),
        None => event,
    }
}
