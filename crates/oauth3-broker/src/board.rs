//! Tells waiters that a request changed.

use oauth3_core::RequestId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// One line per request that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<HashMap<RequestId, watch::Sender<()>>>);

/// One waiter. Changes after it was made are seen, however late it looks.
pub(crate) struct Waiter<'a> {
    board: &'a Board,
    id: RequestId,
    changes: Option<watch::Receiver<()>>,
}

impl Board {
    /// Begins to wait.
    pub(crate) fn watch(&self, id: &RequestId) -> Waiter<'_> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = lines.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        Waiter { board: self, id: id.clone(), changes: Some(changes) }
    }

    /// Wakes everybody who waits for this request.
    pub(crate) fn changed(&self, id: &RequestId) {
        if let Some(line) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            line.send_replace(());
        }
    }
}

impl Waiter<'_> {
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

impl Drop for Waiter<'_> {
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
