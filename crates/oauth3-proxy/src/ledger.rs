//! What was used: sums that are stored every second, and the meters of grants.

use crate::limits::{MAX_MODEL_BYTES, MAX_SUMS};
use crate::meter::{Meter, day_of};
use oauth3_core::{AgentName, ApiId, GrantId, Store, Tally, Timestamp, UsageRow};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Sums that are not stored yet, and the meters.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    sums: Mutex<HashMap<Place, Tally>>,
    meters: Mutex<HashMap<GrantId, Arc<Meter>>>,
    /// There is something to store at once.
    pub(crate) full: Notify,
    /// One store at a time, so that whoever waits for one knows that what was there is stored.
    storing: tokio::sync::Mutex<()>,
}

/// What calls are summed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    day: i64,
    agent: AgentName,
    api: ApiId,
    model: String,
    grant: Option<GrantId>,
}

impl Ledger {
    /// The meters of these grants, as far as there are any; the others are forgotten.
    pub(crate) fn meters<'a>(&self, ids: impl Iterator<Item = &'a GrantId>) -> HashMap<GrantId, Arc<Meter>> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: HashMap<_, _> = ids.filter_map(|id| Some((id.clone(), meters.get(id)?.clone()))).collect();
        meters.clone_from(&kept);
        kept
    }

    /// Takes a meter in.
    pub(crate) fn adopt(&self, id: &GrantId, meter: Meter) -> Arc<Meter> {
        let meter = Arc::new(meter);
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), meter.clone());
        meter
    }

    /// Adds a call that has ended.
    pub(crate) fn add(
        &self,
        agent: &AgentName,
        api: &ApiId,
        model: Option<&str>,
        grant: Option<&GrantId>,
        tally: &Tally,
        now: Timestamp,
    ) {
        // A name that a client makes up must not grow the table.
        let model = model.filter(|model| model.len() <= MAX_MODEL_BYTES && !model.chars().any(char::is_control));
        let place = Place {
            day: day_of(now),
            agent: agent.clone(),
            api: api.clone(),
            model: model.unwrap_or_default().to_owned(),
            grant: grant.cloned(),
        };
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.entry(place).or_default().add(tally);
        if sums.len() >= MAX_SUMS {
            self.full.notify_one();
        }
    }

    /// Stores what is there. What cannot be stored stays for the next time.
    pub(crate) async fn store(&self, store: &dyn Store) {
        let _turn = self.storing.lock().await;
        let taken = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return;
        }
        let row = |(place, tally): (&Place, &Tally)| UsageRow {
            day: place.day,
            agent: place.agent.clone(),
            api: place.api.clone(),
            model: place.model.clone(),
            grant_id: place.grant.clone(),
            tally: *tally,
        };
        let rows: Vec<UsageRow> = taken.iter().map(row).collect();
        if let Err(fault) = store.add_usage(&rows).await {
            tracing::error!(%fault, "the sums of usage are not stored yet");
            let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, tally) in taken {
                sums.entry(place).or_default().add(&tally);
            }
        }
    }
}
