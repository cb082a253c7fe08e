//! The owner's yes to one call, once it is spent.

use crate::proxy::Shared;
use oauth3_core::RequestId;
use std::fmt;
use std::sync::Arc;

/// What is said of a call that came to nothing and of which nothing else is known.
const NOT_ANSWERED: &str = "the client went away before the API answered";

/// The request whose one call was approved, from the moment that the yes is spent. Dropped, the request ends: whatever
/// becomes of the call, it is not under way for ever.
pub(crate) struct Once {
    shared: Arc<Shared>,
    id: RequestId,
    outcome: Result<(), String>,
}

impl Once {
    /// One that was spent just now. Until something else is said of its call, that was not answered.
    pub(crate) fn new(shared: Arc<Shared>, id: RequestId) -> Self {
        Self { shared, id, outcome: Err(NOT_ANSWERED.to_owned()) }
    }

    pub(crate) const fn id(&self) -> &RequestId {
        &self.id
    }

    /// What became of the call.
    pub(crate) fn came_to(&mut self, outcome: Result<(), String>) {
        self.outcome = outcome;
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        let (shared, id) = (self.shared.clone(), self.id.clone());
        let error = std::mem::replace(&mut self.outcome, Ok(())).err();
        // Dropped on a runtime thread, always: connections are tasks.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { shared.asks.used(id, error).await });
        }
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.id).finish()
    }
}
