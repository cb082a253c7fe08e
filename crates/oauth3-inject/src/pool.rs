//! Upstream connections that are kept for the next request of the same run to the same host.

use crate::body::Watched;
use crate::limits::{IDLE_READY_TIMEOUT, MAX_IDLE_AGE, MAX_IDLE_PER_HOST};
use crate::run::Run;
use hyper::client::conn::http1::SendRequest;
use oauth3_core::Host;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{Instant, timeout};

/// The sending half of an upstream connection.
pub(crate) type Sender = SendRequest<Watched>;

/// Idle connections by host. No connection ever serves two hosts or two runs.
#[derive(Default)]
pub(crate) struct Pool(Mutex<BTreeMap<Host, Vec<(Instant, Sender)>>>);

impl Pool {
    /// A connection to this host that is free, the one used last first.
    pub(crate) async fn take(&self, host: &Host) -> Option<Sender> {
        loop {
            let (since, mut sender) = self.pop(host)?;
            let young = since.elapsed() < MAX_IDLE_AGE;
            if young && !sender.is_closed() && matches!(timeout(IDLE_READY_TIMEOUT, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    fn pop(&self, host: &Host) -> Option<(Instant, Sender)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(host)?.pop()
    }

    fn put(&self, host: Host, sender: Sender) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.entry(host).or_default();
        if idle.len() >= MAX_IDLE_PER_HOST {
            idle.remove(0);
        }
        idle.push((Instant::now(), sender));
    }

    /// Closes what is idle.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A connection whose reply is still being read. Dropped, it closes.
pub(crate) struct Kept {
    pub(crate) run: Arc<Run>,
    pub(crate) host: Host,
    pub(crate) sender: Sender,
}

impl Kept {
    pub(crate) fn give_back(self) {
        if !self.sender.is_closed() {
            self.run.pool.put(self.host, self.sender);
        }
    }
}
