//! After a restart: nothing runs twice, nothing open is lost.
//!
//! What was approved or executing has failed as `interrupted`; pending requests stay, unless their time went
//! by meanwhile; those that wait for secrets go on when these are there; every open one is shown again, and
//! agents that were not woken are.

use crate::Broker;
use oauth3_core::{Fault, Status};

/// Requests of one kind that are taken up.
const MAX_TAKEN_UP: u32 = 10_000;
/// Agents that are woken about what ended before the start; what is beyond is left for the next start.
const MAX_WOKEN: u32 = 500;

impl Broker {
    pub(crate) async fn recover(&self) -> Result<(), Fault> {
        let store = &self.ports.store;
        for execution in store.executions(&[Status::Approved, Status::Executing], MAX_TAKEN_UP).await? {
            let when = if execution.status == Status::Executing { "while it ran" } else { "before it ran" };
            self.fail(execution, format!("interrupted: the gateway stopped {when}; it is not run again")).await?;
        }
        for execution in store.executions(&[Status::Pending, Status::AwaitingSecrets], MAX_TAKEN_UP).await? {
            // Shown again, and put on the list of what expires; what is due already expires right below.
            self.changed(&execution);
        }
        self.expire_due().await;
        self.set_started();
        self.secrets_changed().await;
        for execution in store.unnotified(MAX_WOKEN).await? {
            self.wake_agent(&execution);
        }
        Ok(())
    }
}
