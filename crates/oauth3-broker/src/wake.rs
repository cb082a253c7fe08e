//! Wakes the agent when a request reaches its final state.
//!
//! A wake carries fixed words, the request's id and its status; never anything that code wrote. Each target is
//! tried on its own with growing pauses; a restart tries again what was not delivered. That it cannot be
//! delivered never changes the request.

mod deliver;

use crate::{Ports, WakeConfig};
use deliver::Target;
use oauth3_core::{RequestId, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Tries of one target before it is given up.
const MAX_TRIES: u32 = 12;
/// The pause after the first failure; each next one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Deliveries that are under way at once.
const DELIVERIES_AT_ONCE: usize = 4;

pub use deliver::{signature, wake_text};

/// Delivers wakes to every target that is configured.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    targets: Arc<[Target]>,
    ports: Ports,
    lines: Arc<Semaphore>,
}

impl Waker {
    pub(crate) fn new(config: WakeConfig, ports: Ports) -> Self {
        Self { targets: Target::all(config).into(), ports, lines: Arc::new(Semaphore::new(DELIVERIES_AT_ONCE)) }
    }

    /// Wakes, with retries, and notes that it is done. Returns after delivery or giving up.
    pub(crate) async fn wake(&self, id: &RequestId, status: Status) {
        if !status.is_final() {
            return;
        }
        let mut deliveries = JoinSet::new();
        for index in 0..self.targets.len() {
            let (waker, id) = (self.clone(), id.clone());
            deliveries.spawn(async move { waker.deliver(index, &id, status).await });
        }
        while deliveries.join_next().await.is_some() {}
        if let Err(fault) = self.ports.store.set_notified(id, self.ports.clock.now()).await {
            tracing::warn!(request = %id, %fault, "a wake is not noted; it is repeated at the next start");
        }
    }

    async fn deliver(&self, index: usize, id: &RequestId, status: Status) {
        let Some(target) = self.targets.get(index) else { return };
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=MAX_TRIES {
            let Ok(line) = self.lines.acquire().await else { return };
            match target.send(&*self.ports.http, id, status).await {
                Ok(()) => return,
                Err(cause) => {
                    tracing::warn!(request = %id, target = target.name(), attempt, cause, "the agent could not be woken");
                }
            }
            drop(line);
            if attempt < MAX_TRIES {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
        tracing::error!(request = %id, target = target.name(), "waking the agent is given up");
    }
}
