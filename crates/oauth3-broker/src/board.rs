//! Tells waiters that something changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// One line for each thing that somebody waits for.
#[derive(Debug)]
pub(crate) struct Board<K>(Mutex<HashMap<K, watch::Sender<()>>>);

/// One waiter. Changes after it was made are seen, however late it looks.
pub(crate) struct Waiter<'a, K: Eq + Hash> {
    board: &'a Board<K>,
    id: K,
    changes: Option<watch::Receiver<()>>,
}

impl<K> Default for Board<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Board<K> {
    /// Begins to wait.
    pub(crate) fn watch(&self, id: &K) -> Waiter<'_, K> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = lines.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        Waiter { board: self, id: id.clone(), changes: Some(changes) }
    }

    /// Wakes everybody who waits for it.
    pub(crate) fn changed(&self, id: &K) {
        if let Some(line) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            line.send_replace(());
        }
    }
}

impl<K: Eq + Hash> Waiter<'_, K> {
    /// Returns at the next change that this waiter has not seen.
    pub(crate) async fn changed(&mut self) {
        // The line stays while a waiter has it, so there is no other end than a change.
        if let Some(changes) = &mut self.changes
            && changes.changed().await.is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl<K: Eq + Hash> Drop for Waiter<'_, K> {
    fn drop(&mut self) {
        let mut lines = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.changes = None;
        if lines.get(&self.id).is_some_and(|line| line.receiver_count() == 0) {
            lines.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::RequestId;

    #[tokio::test]
    async fn a_line_goes_with_its_last_waiter() {
        let board = Board::default();
        let id = RequestId::random().unwrap();
        let (mut one, two) = (board.watch(&id), board.watch(&id));
        board.changed(&id);
        one.changed().await;
        drop(one);
        assert_eq!(board.0.lock().unwrap().len(), 1);
        drop(two);
        assert_eq!(board.0.lock().unwrap().len(), 0);
        board.changed(&id);
    }
}
