//! What the owner sees and sets.

use crate::{AgentName, Host, SecretName, Tag, Timestamp, Uses, UsesChange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One agent, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its name.
    pub name: AgentName,
    /// When it was added.
    pub created_at: Timestamp,
    /// When its token was last replaced.
    pub rotated_at: Option<Timestamp>,
    /// When it was revoked; a revoked agent can do nothing, for ever.
    pub revoked_at: Option<Timestamp>,
    /// When its token was last accepted.
    pub last_seen_at: Option<Timestamp>,
    /// The words that the owner groups it by.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
}

/// One secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Its name.
    pub name: SecretName,
    /// The hosts that its value may go to. Empty: nowhere.
    pub hosts: BTreeSet<Host>,
    /// How it may be used.
    #[serde(flatten)]
    pub uses: Uses,
    /// Counts values; 1 is the first.
    pub version: u32,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When its value last changed.
    pub updated_at: Timestamp,
}

/// A secret to be stored, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSecret {
    /// Its name.
    pub name: SecretName,
    /// The hosts that its value may go to; with [`NewSecret::replace`] and none given, those it has stay.
    pub hosts: BTreeSet<Host>,
    /// How it may be used, where that differs from the default or from what it is.
    pub uses: UsesChange,
    /// Whether one of that name must exist (rotate) or must not (add).
    pub replace: bool,
    /// The identity that gave it, for the audit.
    pub by: String,
}

/// The state of the whole, for `doctor` and the chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerOverview {
    /// Whether everything is denied.
    pub kill_switch: bool,
    /// Requests that wait for a verdict or a secret.
    pub open_requests: usize,
    /// Runs that go on now.
    pub running: usize,
}
