//! Silence becomes a no exactly on time.

use crate::Broker;
use oauth3_core::{Fault, RequestId, Status, Timestamp};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest sleep, so that a clock that was set or a machine that slept is noticed.
const MAX_NAP: Duration = Duration::from_secs(5);
/// Pause before another try when the store does not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// When each open request expires. Entries of requests that were decided meanwhile do no harm.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    due: Mutex<BTreeSet<(Timestamp, RequestId)>>,
    added: Notify,
}

impl Expiries {
    /// Adds a request.
    pub(crate) fn add(&self, at: Timestamp, id: &RequestId) {
        if self.due.lock().unwrap_or_else(PoisonError::into_inner).insert((at, id.clone())) {
            self.added.notify_one();
        }
    }

    /// Those whose time has come.
    fn take_due(&self, now: Timestamp) -> Vec<RequestId> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        while due.first().is_some_and(|(at, _)| *at <= now) {
            taken.extend(due.pop_first().map(|(_, id)| id));
        }
        taken
    }

    fn next(&self) -> Option<Timestamp> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(at, _)| *at)
    }
}

impl Broker {
    /// Expires what is due now. The broker does so by itself; call it when the clock was moved.
    pub async fn expire_due(&self) {
        for id in self.expiries.take_due(self.now()) {
            if let Err(fault) = self.expire_one(&id).await {
                tracing::error!(request = %id, %fault, "could not be expired; tried again");
                self.expiries.add(self.now().plus(RETRY_PAUSE), &id);
            }
        }
    }

    async fn expire_one(&self, id: &RequestId) -> Result<(), Fault> {
        let _desk = self.desk.lock().await;
        let execution = self.load(id).await?;
        // A yes to one call of an API that nobody made is over with the time of its request.
        let unspent = execution.status == Status::Approved && execution.intent.access.is_some();
        if (execution.status.is_open() || unspent) && self.now() >= execution.expires_at {
            self.expire(execution).await?;
        }
        Ok(())
    }

    /// The task that does it on time.
    pub(crate) async fn expire_on_time(broker: Weak<Self>) {
        while let Some(broker) = broker.upgrade() {
            broker.expire_due().await;
            let nap = broker.expiries.next().map_or(MAX_NAP, |at| at.since(broker.now()).min(MAX_NAP));
            let _ = tokio::time::timeout(nap, broker.expiries.added.notified()).await;
        }
    }
}
