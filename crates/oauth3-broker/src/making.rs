//! An empty sandbox, made beside the recording of the request that it is for.

use crate::Broker;
use oauth3_core::{Execution, Fault, Lane, LaneSpec};
use oauth3_policy::Permit;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// A sandbox that is being made. Dropped before it was taken, it goes away.
pub(crate) struct Making(JoinHandle<Result<Seated, Fault>>);

/// A sandbox, and the seat that it takes.
pub(crate) struct Seated {
    pub(crate) lane: Box<dyn Lane>,
    pub(crate) seat: OwnedSemaphorePermit,
}

impl Broker {
    /// Begins to make the sandbox of a run that was permitted. Nothing of the request is in it, and nothing runs in
    /// it, until the keeper has opened the run.
    pub(crate) fn make_sandbox(&self, permit: &Permit, execution: &Execution) -> Making {
        let spec = LaneSpec {
            hosts: permit.hosts().iter().cloned().collect(),
            limits: *permit.limits(),
            runtime: execution.intent.runtime,
        };
        let (seats, runner) = (self.seats.clone(), self.ports.runner.clone());
        Making(tokio::spawn(async move {
            let seat = seats.acquire_owned().await.map_err(|_| stopped())?;
            Ok(Seated { lane: runner.prepare(spec).await?, seat })
        }))
    }
}

impl Making {
    /// Waits for it. May be dropped while it waits; must not be called again once it gave an answer.
    pub(crate) async fn made(&mut self) -> Result<Seated, Fault> {
        (&mut self.0).await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Stops, and waits until nothing more is being made.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        drop((&mut self.0).await);
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn stopped() -> Fault {
    Fault::Unavailable("the gateway stops".to_owned())
}
