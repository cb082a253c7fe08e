//! The runs that go on now, and how each can be ended from outside.

use oauth3_core::{AgentName, Execution, GrantId, RequestId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Why a run was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The agent took the request back.
    Cancelled,
    /// The grant that it relied on was revoked.
    GrantRevoked,
    /// Its agent was revoked.
    AgentRevoked,
    /// The owner switched everything off.
    KillSwitch,
    /// The keeper died.
    KeeperLost,
    /// The gateway stops.
    Shutdown,
}

impl EndReason {
    /// The sentence for the agent; its first word is fixed by the contract.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled: the agent took the request back",
            Self::GrantRevoked => "denied: the grant that it relied on was revoked",
            Self::AgentRevoked => "denied: this agent was revoked",
            Self::KillSwitch => "denied: the owner has switched everything off",
            Self::KeeperLost => "interrupted: the keeper stopped while it ran; it is not run again",
            Self::Shutdown => "interrupted: the gateway stopped while it ran; it is not run again",
        }
    }
}

/// Every run that goes on now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<HashMap<RequestId, Entry>>>);

#[derive(Debug)]
struct Entry {
    agent: AgentName,
    grant_id: Option<GrantId>,
    end: watch::Sender<Option<EndReason>>,
    gone: watch::Receiver<()>,
}

/// Held by the task of one run; the run is over when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    runs: Runs,
    id: RequestId,
    end: watch::Receiver<Option<EndReason>>,
    /// Dropped with the ticket, which is what waiters wait for.
    _gone: watch::Sender<()>,
}

/// Resolves when the runs that it was made for are gone, sandboxes and all.
#[must_use]
pub(crate) struct Gone(Vec<watch::Receiver<()>>);

impl Gone {
    /// Waits for all of them.
    pub(crate) async fn wait(self) {
        for mut gone in self.0 {
            // An error is the sender's drop: the ticket's end.
            while gone.changed().await.is_ok() {}
        }
    }
}

impl Runs {
    /// Registers a run before its task begins.
    pub(crate) fn begin(&self, execution: &Execution) -> Ticket {
        let (end, ended) = watch::channel(None);
        let (gone_sender, gone) = watch::channel(());
        let (agent, grant_id) = (execution.intent.agent.clone(), execution.grant_id.clone());
        self.lock().insert(execution.id.clone(), Entry { agent, grant_id, end, gone });
        Ticket { runs: self.clone(), id: execution.id.clone(), end: ended, _gone: gone_sender }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends one, if it goes on.
    pub(crate) fn end(&self, id: &RequestId, reason: EndReason) -> Gone {
        self.end_where(reason, |run, _, _| run == id)
    }

    /// Ends those that use this grant.
    pub(crate) fn end_grant(&self, grant: &GrantId) -> Gone {
        self.end_where(EndReason::GrantRevoked, |_, _, of| of == Some(grant))
    }

    /// Ends those of this agent.
    pub(crate) fn end_agent(&self, agent: &AgentName) -> Gone {
        self.end_where(EndReason::AgentRevoked, |_, of, _| of == agent)
    }

    /// Ends all.
    pub(crate) fn end_all(&self, reason: EndReason) -> Gone {
        self.end_where(reason, |_, _, _| true)
    }

    fn end_where(&self, reason: EndReason, which: impl Fn(&RequestId, &AgentName, Option<&GrantId>) -> bool) -> Gone {
        let runs = self.lock();
        let chosen = runs.iter().filter(|(id, entry)| which(id, &entry.agent, entry.grant_id.as_ref()));
        Gone(
            chosen
                .map(|(_, entry)| {
                    // The first reason stands.
                    entry.end.send_if_modified(|slot| slot.is_none() && slot.replace(reason).is_none());
                    entry.gone.clone()
                })
                .collect(),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Returns when somebody ends this run.
    pub(crate) async fn ended(&mut self) -> EndReason {
        match self.end.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // The entry stays while the ticket is there.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.runs.lock().remove(&self.id);
    }
}
