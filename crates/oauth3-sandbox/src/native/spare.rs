//! One empty sandbox that waits for the next run.
//!
//! A spare holds nothing of any request: it has its namespaces, its control group, its file system and its
//! listeners, and process 1 waits for a job; where the last run was one of the embedded engine, that waits inside too.
//! It is used once, like one that was made for its run.
//!
//! It is made when there is nothing else to do: it needs both processors and the kernel's locks for milliseconds, and
//! a run that ends meanwhile would wait for them.

use super::helper::{Helper, Made};
use super::{Ports, Shared};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long after the end of a run the next sandbox is begun, unless it is asked for: the result goes out first.
const REST: Duration = Duration::from_millis(5);
/// A run that goes on for this long is not waited for.
const LONG_RUN: Duration = Duration::from_millis(200);

type Sandbox = (Helper, Made);

/// The place of the spare.
pub(super) struct Spare {
    kept: bool,
    place: Mutex<Option<Coming>>,
}

/// A spare that is there, or is made soon.
struct Coming {
    made: JoinHandle<Option<Sandbox>>,
    /// Somebody waits for it.
    wanted: Arc<Notify>,
}

impl Spare {
    pub(super) const fn new(kept: bool) -> Self {
        Self { kept, place: Mutex::new(None) }
    }

    /// The spare, if there will be one that listens on these ports and still lives.
    pub(super) async fn take(&self, ports: &Ports) -> Option<Sandbox> {
        if *ports != Ports::usual() {
            return None;
        }
        let coming = self.place.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        coming.wanted.notify_one();
        coming.made.await.ok().flatten().filter(|(helper, _)| helper.is_alive())
    }

    /// Puts a spare that is made after `rest` into the place, unless there is one.
    fn fill(shared: &Arc<Shared>, engine: bool, rest: impl Future<Output = ()> + Send + 'static) {
        let mut place = shared.spare.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return;
        }
        let wanted = Arc::new(Notify::new());
        let (shared, asked) = (Arc::downgrade(shared), Arc::clone(&wanted));
        let made = tokio::spawn(async move {
            tokio::select! {
                () = asked.notified() => {}
                () = rest => {}
            }
            let made = shared.upgrade()?.build(&Ports::usual(), engine).await;
            // The next run makes its own, and tells what is wrong.
            made.inspect_err(|error| tracing::warn!(%error, "no sandbox could be made in advance")).ok()
        });
        *place = Some(Coming { made, wanted });
    }
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spare").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// What one run does for the next.
pub(super) struct Refill {
    /// Where no spare is kept there is nothing to do.
    shared: Option<Weak<Shared>>,
    /// Whether this run is one of the embedded engine: the next one probably is, too.
    engine: bool,
}

impl Refill {
    pub(super) fn new(shared: &Arc<Shared>, engine: bool) -> Self {
        Self { shared: shared.spare.kept.then(|| Arc::downgrade(shared)), engine }
    }

    /// Sees to it that a long run does not leave the others without. Ends when what is returned is dropped.
    pub(super) fn while_it_runs(&self) -> Option<AbortOnDrop> {
        let (shared, engine) = (self.shared.clone()?, self.engine);
        let task = tokio::spawn(async move {
            tokio::time::sleep(LONG_RUN).await;
            if let Some(shared) = shared.upgrade() {
                Spare::fill(&shared, engine, async {});
            }
        });
        Some(AbortOnDrop(task))
    }

    /// The run is over; `leave` is what is left of it.
    pub(super) fn after(self, leave: impl Future<Output = ()> + Send + 'static) {
        let left = tokio::spawn(leave);
        if let Some(shared) = self.shared.as_ref().and_then(Weak::upgrade) {
            Spare::fill(&shared, self.engine, async move {
                let _ = left.await;
                tokio::time::sleep(REST).await;
            });
        }
    }
}

/// Ends a task when it is dropped.
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
