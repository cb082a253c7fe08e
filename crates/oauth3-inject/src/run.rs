//! What all connections of one run share.

use crate::dns::Names;
use crate::fill::{Held, Unfit};
use crate::lanes::Lanes;
use crate::limits::RECORD_TIMEOUT;
use crate::marks::Marks;
use crate::messages::scrub_fields;
use crate::meter::Meter;
use crate::observer::Observer;
use crate::refusals::{Kind, Noted, Refusals};
use crate::reply::Refusal;
use crate::rules::Bar;
use crate::sign;
use crate::tasks::Tasks;
use http::{HeaderMap, HeaderValue, StatusCode};
use oauth3_core::{Clock, Host};
use oauth3_dial::Dialer;
use oauth3_vault::{Lease, Role, Scrubber};
use rustls::ServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{OnceCell, Semaphore, oneshot};
use tokio::time::timeout;

/// Which secrets were recorded toward which hosts; an empty cell is being recorded, or failed to be.
pub(crate) type Uses = BTreeMap<(usize, Host), Arc<OnceCell<()>>>;

/// One run's data plane.
pub(crate) struct Run {
    pub(crate) hosts: BTreeSet<Host>,
    /// How each of them is written in a Host field.
    pub(crate) authorities: BTreeMap<Host, HeaderValue>,
    pub(crate) names: Names,
    pub(crate) leases: Arc<[Lease]>,
    pub(crate) marks: Marks,
    pub(crate) scrubber: RwLock<Scrubber>,
    pub(crate) dialer: Dialer,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) lanes: Lanes,
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

    /// Finds every value of the run, those that came while it went on included.
    pub(crate) fn scrubber(&self) -> Scrubber {
        self.scrubber.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Scrubs the fields of a message from a host.
    pub(crate) fn scrub_fields(&self, fields: &mut HeaderMap) {
        scrub_fields(&self.scrubber(), &self.leases, fields);
    }

    /// Renews the access tokens among these secrets where that is due, or because a host `refused` them. Says whether
    /// one is another now.
    pub(crate) async fn renew(&self, secrets: &BTreeSet<usize>, refused: bool) -> bool {
        let mut any = false;
        for lease in secrets.iter().filter_map(|index| self.leases.get(*index)) {
            if lease.name.connection().is_none() || !matches!(lease.role, Role::Value | Role::AwsKeyId) {
                continue;
            }
            let version = lease.current().0;
            if let Some((newer, value)) = self.observer.newer_token(&lease.name, version, refused).await {
                // Of several requests that come at once the first has it done.
                any |= lease.current().0 == newer
                    || match lease.role {
                        Role::AwsKeyId => sign::renew_aws(&self.leases, lease, newer, &value),
                        _ => lease.renew(newer, value),
                    };
            }
        }
        if any {
            *self.scrubber.write().unwrap_or_else(PoisonError::into_inner) = Scrubber::new(&self.leases);
        }
        any
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

    /// A placeholder was seen in a request where it may not be.
    pub(crate) fn barred(&self, index: usize, bar: Bar, host: &Host) -> Refusal {
        let sentence = format!("{} ({})", bar.sentence(), self.name(index));
        Refusal { kind: Kind::Astray, ..Refusal::denied(StatusCode::FORBIDDEN, host.to_string(), sentence) }
    }

    /// A value cannot stand where its placeholder does.
    pub(crate) fn unfit(&self, Unfit(index): &Unfit, host: &Host) -> Refusal {
        let name = self.name(*index);
        let sentence = format!(
            "the value of {name} cannot stand where its placeholder does: a line break or another \
                                control character in a field, a dot in a path, or no UTF-8 in JSON"
        );
        Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), sentence)
    }

    /// Notes and reports a refusal without waiting for that.
    pub(crate) fn note_refusal(&self, refusal: &Refusal) {
        drop(self.note(refusal));
    }

    fn name(&self, index: usize) -> &str {
        self.leases.get(index).map_or("a secret", |lease| lease.name.as_str())
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
        let scrubber = self.scrubber();
        let scrub = |text: String| String::from_utf8_lossy(&scrubber.scrub(text.as_bytes())).into_owned();
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
        let placeholder = refusal.kind == Kind::Astray;
        let (tell, told) = oneshot::channel();
        let observer = Arc::clone(&self.observer);
        self.records.spawn(async move {
            observer.refused(&host, &reason, placeholder).await;
            let _ = tell.send(());
        });
        Some(told)
    }
}
