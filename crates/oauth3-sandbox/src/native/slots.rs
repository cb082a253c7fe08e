//! Numbers for sandboxes that exist, so that no two share a host id.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Most sandboxes at once.
const MAX_SANDBOXES: u32 = 1024;

/// Which numbers are taken.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: Mutex<BTreeSet<u32>>,
}

/// A taken number; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    slots: Arc<Slots>,
}

impl Slots {
    /// Takes the lowest free number; `None` when all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..MAX_SANDBOXES).find(|number| !taken.contains(number))?;
        taken.insert(number);
        drop(taken);
        Some(Slot { number, slots: Arc::clone(self) })
    }
}

impl Slot {
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_again_when_its_holder_is_gone_and_the_bound_holds() {
        let slots = Arc::new(Slots::default());
        let mut held: Vec<_> = (0..MAX_SANDBOXES).map(|_| slots.take().unwrap()).collect();
        assert!(slots.take().is_none());
        drop(held.remove(7));
        assert_eq!(slots.take().unwrap().number(), 7);
    }
}
