//! What a decision is made from.

use oauth3_core::{Grant, Intent, SecretName, Status, Timestamp, Trust};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything that a decision is made from. Nothing else may sway it.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What is asked for.
    pub intent: Arc<Intent>,
    /// Now.
    pub now: Timestamp,
    /// Whether everything is denied.
    pub kill_switch: bool,
    /// Whether the agent exists and was not revoked.
    pub agent_active: bool,
    /// The newest grant that was not revoked, of this intent's digest, if any.
    pub grant: Option<&'a Grant>,
    /// Secrets that the intent names and the vault does not hold.
    pub missing: &'a [SecretName],
    /// Secrets that the intent names and that are stored so that code gets the real value.
    pub revealed: &'a BTreeSet<SecretName>,
    /// Whether one of those was stored so that each request needs a verdict of its own.
    pub reveal_once: bool,
    /// How far the request has come.
    pub stage: Stage,
}

/// How far the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It just came in.
    Submitted(Load),
    /// It is stored, and something is about to happen with it.
    Stored {
        /// Where it stands.
        status: Status,
        /// The trust of its approval.
        trust: Option<Trust>,
        /// When it was approved.
        approved_at: Option<Timestamp>,
        /// When silence becomes a no.
        expires_at: Timestamp,
        /// Whether it was approved by a standing grant and not by a verdict of its own.
        trusted: bool,
        /// Whether the grant that its verdict made was revoked since.
        grant_revoked: bool,
    },
}

/// How much an agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Calls within the last minute, this one included.
    pub calls_last_minute: u32,
    /// The owner's limit of those.
    pub calls_per_minute: u32,
    /// Open requests, this one not included.
    pub open_requests: u32,
    /// The owner's limit of those.
    pub open_requests_max: u32,
}
