//! Idle connections of the HTTP client.

use crate::resolve::Reach;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most idle connections kept, over all places.
const MAX_IDLE: usize = 16;
/// Longest that a connection is kept idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// The sending half of one connection.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// What may share a connection. The reach is part of it: a connection that the owner's configuration allowed
/// to a private address is never used for an address that an agent named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) tls: bool,
    pub(crate) place: String,
    pub(crate) port: u16,
    pub(crate) reach: Reach,
}

struct Idle {
    key: Key,
    sender: Sender,
    since: Instant,
}

/// Keeps a few idle connections, the most recent for reuse first.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

impl Pool {
    pub(crate) fn take(&self, key: &Key) -> Option<Sender> {
        let mut idle = self.live();
        let at = idle.iter().rposition(|entry| entry.key == *key)?;
        Some(idle.remove(at).sender)
    }

    pub(crate) fn put(&self, key: Key, sender: Sender) {
        let mut idle = self.live();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { key, sender, since: Instant::now() });
    }

    /// The list without connections that ended or were idle for too long.
    fn live(&self) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|entry| !entry.sender.is_closed() && entry.since.elapsed() < IDLE_TIMEOUT);
        idle
    }
}
