//! The runs that are open.

use crate::audit::Audit;
use crate::capture::Capture;
use crate::reveal::Delivery;
use crate::watch::Watch;
use oauth3_core::{AuditEvent, AuditKind, Fault, RequestId, RunOutput};
use oauth3_inject::Egress;
use oauth3_vault::Scrubber;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the pipes of a run may stay open after its network ended. Its processes are gone by then.
const OUTPUT_GRACE: Duration = Duration::from_secs(3);

/// Most events that may be recorded with the end of a run.
const MAX_THEN: usize = 4;

/// Most runs that are open at a time; the gateway has fewer seats than that.
const MAX_OPEN_RUNS: usize = 256;

/// One open run. Dropping it ends its network and the reading of its output.
pub(crate) struct Run {
    pub(crate) egress: Egress,
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
    pub(crate) scrubber: Scrubber,
    pub(crate) watch: Arc<Watch>,
    /// Values on their way to the code.
    pub(crate) delivery: Option<Delivery>,
}

/// Where a run stands.
enum Slot {
    Opening,
    /// Closed while it was being opened: what opens it must let it go.
    Cancelled,
    Open(Box<Run>),
}

/// The runs by their request.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<RequestId, Slot>>);

/// The right to open a run. Dropped without [`Opening::opened`], nothing is open.
pub(crate) struct Opening<'a> {
    runs: &'a Runs,
    id: RequestId,
}

impl Runs {
    /// Begins to open a run; nobody else can meanwhile.
    pub(crate) fn begin(&self, id: &RequestId) -> Result<Opening<'_>, Fault> {
        let mut slots = self.lock();
        if slots.contains_key(id) {
            return Err(Fault::AlreadyDecided("this request runs already".into()));
        }
        if slots.len() >= MAX_OPEN_RUNS {
            return Err(Fault::Unavailable("too many runs are open; try again later".into()));
        }
        slots.insert(id.clone(), Slot::Opening);
        Ok(Opening { runs: self, id: id.clone() })
    }

    /// Ends a run's network and gives what it wrote. `then` is recorded with its end.
    pub(crate) async fn close(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        if then.len() > MAX_THEN {
            return Err(Fault::TooLarge(format!("more than {MAX_THEN} events with the end of a run")));
        }
        then.iter().try_for_each(Audit::check)?;
        let run = {
            let mut slots = self.lock();
            match slots.remove(id) {
                Some(Slot::Open(run)) => Some(run),
                Some(Slot::Opening | Slot::Cancelled) => {
                    slots.insert(id.clone(), Slot::Cancelled);
                    None
                }
                None => None,
            }
        };
        run.ok_or_else(|| Fault::NotFound("no such run is open".into()))?.close(then).await
    }

    /// Ends every run. What they wrote is lost with the gateway that wanted it.
    pub(crate) async fn close_all(&self) {
        let ids: Vec<RequestId> = self.lock().keys().cloned().collect();
        for id in ids {
            if let Err(fault) = self.close(&id, Vec::new()).await {
                tracing::warn!(request = %id, %fault, "a run was not closed in order");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening<'_> {
    /// Keeps the open run, unless it was closed meanwhile.
    pub(crate) fn opened(self, run: Run) -> Result<(), Fault> {
        let mut slots = self.runs.lock();
        match slots.get_mut(&self.id) {
            Some(slot @ Slot::Opening) => {
                *slot = Slot::Open(Box::new(run));
                Ok(())
            }
            _ => Err(Fault::Unavailable("the run was closed while it was being opened".into())),
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut slots = self.runs.lock();
        if !matches!(slots.get(&self.id), Some(Slot::Open(_))) {
            slots.remove(&self.id);
        }
    }
}

impl Run {
    async fn close(self: Box<Self>, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        let Self { egress, stdout, stderr, scrubber, watch, delivery } = *self;
        drop(delivery);
        let mut used = egress.usage();
        let refusals: Vec<String> = egress
            .close()
            .await
            .into_iter()
            .map(|sentence| String::from_utf8_lossy(&scrubber.scrub(sentence.as_bytes())).into_owned())
            .collect();
        used.egress_refused = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
        let ((stdout, cut_out), (stderr, cut_err)) =
            tokio::join!(stdout.finish(OUTPUT_GRACE), stderr.finish(OUTPUT_GRACE));
        let truncated = cut_out || cut_err;
        let event = watch
            .event(AuditKind::RunClosed)
            .with("stdout_bytes", stdout.len())
            .with("stderr_bytes", stderr.len())
            .with("truncated", truncated)
            .with("refusals", refusals.len())
            .with("egress_sent_bytes", used.egress_sent_bytes)
            .with("egress_received_bytes", used.egress_received_bytes)
            .with("egress_requests", used.egress_requests);
        let events: Vec<AuditEvent> = std::iter::once(event).chain(then).collect();
        watch.record(&events).await?;
        Ok(RunOutput { stdout, stderr, truncated, refusals, egress: used })
    }
}
