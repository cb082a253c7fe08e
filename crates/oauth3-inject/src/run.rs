//! What all connections of one run share.

use crate::dns::Names;
use crate::limits::RECORD_TIMEOUT;
use crate::marks::Marks;
use crate::meter::Meter;
use crate::observer::Observer;
use crate::pool::Pool;
use crate::refusals::{Kind, Noted, Refusals};
use crate::reply::Refusal;
use crate::substitute::Held;
use crate::tasks::Tasks;
use http::StatusCode;
use oauth3_core::Host;
use oauth3_dial::Dialer;
use oauth3_vault::{Lease, Scrubber};
use rustls::ServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore, oneshot};
use tokio::time::timeout;

const NOT_BOUND: &str =
    "the request holds the placeholder of a secret that is not bound to this host; nothing was put in its place";

/// Which secrets were recorded toward which hosts; an empty cell is being recorded, or failed to be.
pub(crate) type Uses = BTreeMap<(usize, Host), Arc<OnceCell<()>>>;

/// One run's data plane.
pub(crate) struct Run {
    pub(crate) hosts: BTreeSet<Host>,
    pub(crate) names: Names,
    pub(crate) leases: Arc<[Lease]>,
    pub(crate) marks: Marks,
    pub(crate) scrubber: Scrubber,
    pub(crate) dialer: Dialer,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) pool: Pool,
    pub(crate) connections: Arc<Semaphore>,
    /// The memory that decoders may need, in [`crate::limits::DECODERS_UNIT_BYTES`].
    pub(crate) decoders: Arc<Semaphore>,
    /// Places for requests under way.
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) meter: Meter,
    /// Connections, both ways.
    pub(crate) tasks: Tasks,
    /// Reports to the observer, which outlive the connections that they are about.
    pub(crate) records: Tasks,
    pub(crate) uses: Mutex<Uses>,
    pub(crate) refusals: Mutex<Refusals>,
}

/// What the audit says once when there are more refusals than it takes.
const MORE_REFUSED: &str = "more was refused than is recorded one by one";

impl Run {
    /// The leases with the means to find their placeholders.
    pub(crate) fn held(&self) -> Held<'_> {
        Held { leases: &self.leases, marks: &self.marks }
    }

    /// Records that these secrets are about to go to this host, unless they were recorded before.
    pub(crate) async fn record_uses(&self, secrets: &BTreeSet<usize>, host: &Host) -> Result<(), Refusal> {
        for &index in secrets {
            let Some(lease) = self.leases.get(index) else { continue };
            let cell = {
                let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(uses.entry((index, host.clone())).or_default())
            };
            let record = cell.get_or_try_init(|| self.observer.secret_used(&lease.name, host));
            if !matches!(timeout(RECORD_TIMEOUT, record).await, Ok(Ok(()))) {
                let sentence = "the use of a secret could not be recorded, so nothing was sent";
                return Err(Refusal::failed(StatusCode::SERVICE_UNAVAILABLE, host.to_string(), sentence));
            }
        }
        Ok(())
    }

    /// Whether a secret of the run is bound to this host, on any port. Then the host may know the value, from
    /// this run or one before, and what it says must be readable.
    pub(crate) fn may_know_secrets(&self, host: &Host) -> bool {
        self.leases.iter().flat_map(|lease| &lease.hosts).any(|bound| bound.name() == host.name())
    }

    /// A placeholder was seen toward a host that its secret is not bound to.
    pub(crate) fn astray(&self, index: usize, host: &Host) -> Refusal {
        let name = self.leases.get(index).map_or("a secret", |lease| lease.name.as_str());
        let refusal = Refusal::denied(StatusCode::FORBIDDEN, host.to_string(), format!("{NOT_BOUND} ({name})"));
        Refusal { kind: Kind::Astray, ..refusal }
    }

    /// The same, from within a body that is being polled: noted and reported without waiting.
    pub(crate) fn astray_in_body(self: &Arc<Self>, index: usize, host: &Host) {
        self.note_refusal(&self.astray(index, host));
    }

    /// Notes and reports a refusal without waiting for that.
    pub(crate) fn note_refusal(&self, refusal: &Refusal) {
        drop(self.note(refusal));
    }

    /// Keeps a refusal for the end of the run and, when it is the code's doing, tells the observer; returns
    /// when that is done.
    pub(crate) async fn refuse(&self, refusal: &Refusal) {
        if let Some(told) = self.note(refusal) {
            // The record goes on by itself when the code does not wait for its answer.
            let _ = timeout(RECORD_TIMEOUT, told).await;
        }
    }

    /// Keeps a sentence without telling the observer.
    pub(crate) fn keep(&self, sentence: String) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).keep(Kind::Failed, sentence);
    }

    /// What was refused, scrubbed, the most serious first.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let scrub = |text: String| String::from_utf8_lossy(&self.scrubber.scrub(text.as_bytes())).into_owned();
        refusals.sentences().map(scrub).collect()
    }

    fn note(&self, refusal: &Refusal) -> Option<oneshot::Receiver<()>> {
        let sentence = match refusal.host.as_str() {
            "" => refusal.sentence.to_string(),
            host => format!("{host}: {}", refusal.sentence),
        };
        tracing::debug!(status = refusal.status.as_u16(), "refused by the egress");
        let noted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).keep(refusal.kind, sentence);
        let (host, reason) = match noted {
            _ if !refusal.kind.audited() => return None,
            Noted::New => (refusal.host.clone(), refusal.sentence.to_string()),
            Noted::FirstOver => (String::new(), MORE_REFUSED.to_owned()),
            Noted::Known | Noted::Over => return None,
        };
        let (tell, told) = oneshot::channel();
        let observer = Arc::clone(&self.observer);
        self.records.spawn(async move {
            observer.refused(&host, &reason).await;
            let _ = tell.send(());
        });
        Some(told)
    }
}
