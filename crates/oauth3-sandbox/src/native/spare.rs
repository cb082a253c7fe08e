//! One empty sandbox that waits for the next run.
//!
//! A spare holds nothing of any request: it has its namespaces, its control group, its file system and its
//! listeners, and process 1 waits for a job. It is used once, like one that was made for its run.

use super::helper::{Helper, Made};
use super::{Ports, Shared};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The place of the spare.
pub(super) struct Spare {
    kept: bool,
    place: Mutex<Option<(Helper, Made)>>,
    /// Whether one is being made.
    making: AtomicBool,
}

impl Spare {
    pub(super) const fn new(kept: bool) -> Self {
        Self { kept, place: Mutex::new(None), making: AtomicBool::new(false) }
    }

    /// Whether there is to be one at all.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// The spare, if there is one that listens on these ports and still lives.
    pub(super) fn take(&self, ports: &Ports) -> Option<(Helper, Made)> {
        if *ports != Ports::usual() {
            return None;
        }
        let spare = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.filter(|(helper, _)| helper.is_alive())
    }
}

/// Makes a new spare in the background, unless there is one.
pub(super) fn refill(shared: &Arc<Shared>) {
    let spare = &shared.spare;
    let there = spare.place.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if there || spare.making.swap(true, Ordering::SeqCst) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let made = shared.build(&Ports::usual()).await;
        match made {
            Ok(made) => *shared.spare.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(made),
            // The next run makes its own, and tells what is wrong.
            Err(error) => tracing::warn!(%error, "no sandbox could be made in advance"),
        }
        shared.spare.making.store(false, Ordering::SeqCst);
    });
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spare").field("kept", &self.kept).finish_non_exhaustive()
    }
}
