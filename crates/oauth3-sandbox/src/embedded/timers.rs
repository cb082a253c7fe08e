//! The timers of a program, in the order in which they fall due.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Timers by deadline; those of equal deadline fire in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, u64)>,
    by_id: HashMap<u64, (Instant, bool)>,
    holding: usize,
}

impl Timers {
    /// Sets timer `id`. One that is `holding` keeps the program alive until it fires.
    pub(super) fn set(&mut self, id: u64, at: Instant, holding: bool) {
        self.clear(id);
        self.queue.insert((at, id));
        self.by_id.insert(id, (at, holding));
        self.holding += usize::from(holding);
    }

    /// Forgets timer `id`, if it is set.
    pub(super) fn clear(&mut self, id: u64) {
        if let Some((at, holding)) = self.by_id.remove(&id) {
            self.queue.remove(&(at, id));
            self.holding -= usize::from(holding);
        }
    }

    /// Changes whether timer `id` keeps the program alive.
    pub(super) fn hold(&mut self, id: u64, holding: bool) {
        if let Some((_, held)) = self.by_id.get_mut(&id) {
            self.holding = self.holding - usize::from(*held) + usize::from(holding);
            *held = holding;
        }
    }

    /// Takes out the first timer that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let &(at, id) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.clear(id);
        Some(id)
    }

    /// When the next timer falls due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Whether a timer keeps the program alive.
    pub(super) fn is_holding(&self) -> bool {
        self.holding > 0
    }
}
