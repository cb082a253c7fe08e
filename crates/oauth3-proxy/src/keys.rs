//! The keys of an API: whose turn it is, and which rest.

use crate::backing::Backing;
use crate::book::{Api, Seat};
use crate::limits::{MAX_REST, REST, REST_REFUSED};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use oauth3_core::{Clock, Fault, KeyPlace, SecretName, Timestamp};
use oauth3_vault::{Lease, Role, Scrubber};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// One value of one secret.
pub(crate) struct Key {
    pub(crate) secret: SecretName,
    pub(crate) version: u32,
    /// Opened when it is first used.
    opened: OnceCell<Opened>,
    /// It is not this one's turn before then, in milliseconds since the Unix epoch.
    rests_until: AtomicI64,
}

/// A key that is open.
pub(crate) struct Opened {
    /// One, or one for each part of AWS credentials.
    pub(crate) leases: Vec<Lease>,
    /// Finds it in what the API sends back.
    pub(crate) scrubber: Scrubber,
}

/// Every key that was used, by its secret.
#[derive(Debug, Default)]
pub(crate) struct KeyRing(Mutex<HashMap<SecretName, Arc<Key>>>);

impl KeyRing {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<SecretName, Arc<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("secret", &self.secret).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn new(secret: &SecretName, version: u32) -> Self {
        Self { secret: secret.clone(), version, opened: OnceCell::new(), rests_until: AtomicI64::new(0) }
    }

    /// The key, for a call of this API. Its hosts and rules are those that it was sealed with, whatever the database says
    /// now. `path` is decoded.
    pub(crate) async fn open(
        &self,
        backing: &dyn Backing,
        api: &Api,
        method: &Method,
        path: &str,
    ) -> Result<&Opened, Fault> {
        let opened = self.opened.get_or_try_init(async || {
            let lent = backing.lend(&self.secret).await?;
            if lent.version != self.version {
                return Err(Fault::Unavailable(format!("{} has just changed; try again", self.secret)));
            }
            Ok(Opened { scrubber: Scrubber::new(&lent.leases), leases: lent.leases })
        });
        let opened = opened.await?;
        let denied = |why: String| Err(Fault::DeniedByPolicy(format!("{} {why}", self.secret)));
        let Some(lease) = opened.leases.first() else { return denied("holds nothing".to_owned()) };
        match (&api.place, &lease.role) {
            (Some(KeyPlace::SigV4 { .. }), Role::AwsKeyId) => {}
            (Some(KeyPlace::SigV4 { .. }), _) => {
                return denied("holds no AWS credentials; the owner stores them with --kind aws-sigv4".to_owned());
            }
            (_, Role::Value) if opened.leases.len() == 1 => {}
            _ => return denied("is kept for signing, and no API key".to_owned()),
        }
        let host = api.base.host();
        if !lease.hosts.contains(host) {
            return denied(format!("may not go to {host}"));
        }
        let rules = &lease.uses.rules;
        if !rules.is_empty() && !rules.iter().any(|rule| rule.allows(host, method.as_str(), path)) {
            return denied(format!("is not for {method} {path}"));
        }
        Ok(opened)
    }

    /// Whether it rests.
    fn rests(&self, now: Timestamp) -> bool {
        self.rests_until.load(Ordering::Relaxed) > now.millis()
    }

    /// Learns from a reply: whether another key should be tried, and how long this one rests.
    pub(crate) fn learn(&self, status: StatusCode, headers: &HeaderMap, clock: &dyn Clock) -> bool {
        let Some(usual) = rest_after(status) else { return false };
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let rest = asked.map_or(usual, Duration::from_secs).min(MAX_REST);
        self.rest(rest, clock.now());
        if status == StatusCode::UNAUTHORIZED {
            tracing::warn!(secret = %self.secret, "an API does not take a key any more; give it a new value");
        }
        true
    }

    /// The API could not be reached with it.
    pub(crate) fn rest(&self, rest: Duration, now: Timestamp) {
        self.rests_until.fetch_max(now.plus(rest).millis(), Ordering::Relaxed);
    }
}

/// How long a key rests after such a reply; nothing: it does not.
fn rest_after(status: StatusCode) -> Option<Duration> {
    match status.as_u16() {
        401 => Some(REST_REFUSED),
        429 | 500 | 502 | 503 | 504 | 529 => Some(REST),
        _ => None,
    }
}

impl Seat {
    /// The keys in the order in which they are tried: whose turn it is first, those that rest last.
    pub(crate) fn keys_in_turn(&self, clock: &dyn Clock) -> Vec<Arc<Key>> {
        if let [only] = self.keys.as_slice() {
            return vec![only.clone()];
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut keys: Vec<Arc<Key>> =
            self.keys.iter().cycle().skip(turn % self.keys.len().max(1)).take(self.keys.len()).cloned().collect();
        let now = clock.now();
        keys.sort_by_key(|key| key.rests(now));
        keys
    }
}
