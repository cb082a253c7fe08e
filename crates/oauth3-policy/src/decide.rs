//! The decision itself.

use crate::facts::{Facts, Load, Stage};
use crate::permit::{Basis, Permit};
use oauth3_core::{Status, Timestamp, Trust};
use std::fmt;

/// What the PDP says.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may run, under the permit's conditions.
    Permit(Permit),
    /// The owner must do something first.
    Ask(AskReason),
    /// No.
    Deny(DenyReason),
}

/// What the owner must do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskReason {
    /// Give a verdict.
    NoGrant,
    /// Add a secret that is named and not there; the verdict or grant is.
    SecretsMissing,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// The kill switch is on.
    KillSwitch,
    /// There is no such agent, or it was revoked.
    AgentInactive,
    /// Too many calls within a minute.
    TooManyCalls,
    /// Too many requests wait for the owner.
    TooManyOpen,
    /// Nobody said anything in time.
    Expired,
    /// The grant that it relied on ended or was revoked.
    GrantGone,
    /// It is in no state to run: already ran, denied, cancelled.
    NotApproved,
}

impl fmt::Display for AskReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoGrant => "no standing grant covers this; the owner will be asked",
            Self::SecretsMissing => "a secret that it names is not stored yet; the owner will be asked for it",
        })
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillSwitch => "the owner has switched everything off",
            Self::AgentInactive => "this agent is not active",
            Self::TooManyCalls => "too many requests within a minute",
            Self::TooManyOpen => "too many requests wait for the owner already",
            Self::Expired => "nobody answered in time",
            Self::GrantGone => "the grant that it relied on ended",
            Self::NotApproved => "it is not approved, or was run before",
        })
    }
}

/// Decides. The first rule that applies wins; what no rule covers is denied.
pub fn decide(facts: &Facts<'_>) -> Decision {
    if facts.kill_switch {
        return Decision::Deny(DenyReason::KillSwitch);
    }
    if !facts.agent_active {
        return Decision::Deny(DenyReason::AgentInactive);
    }
    match facts.stage {
        Stage::Submitted(load) => submitted(facts, load),
        Stage::Stored { status: Status::Pending, expires_at, .. } => {
            if facts.now < expires_at {
                Decision::Ask(AskReason::NoGrant)
            } else {
                Decision::Deny(DenyReason::Expired)
            }
        }
        Stage::Stored { status: Status::AwaitingSecrets, expires_at, .. } if facts.now >= expires_at => {
            Decision::Deny(DenyReason::Expired)
        }
        Stage::Stored {
            status: Status::AwaitingSecrets | Status::Approved,
            trust: Some(trust),
            approved_at: Some(approved_at),
            expires_at,
            trusted,
            grant_revoked,
        } => approved(facts, trust, approved_at < expires_at, trusted, grant_revoked, approved_at),
        Stage::Stored { .. } => Decision::Deny(DenyReason::NotApproved),
    }
}

fn submitted(facts: &Facts<'_>, load: Load) -> Decision {
    if load.calls_last_minute > load.calls_per_minute {
        return Decision::Deny(DenyReason::TooManyCalls);
    }
    match covering_grant(facts) {
        Some(basis) if facts.missing.is_empty() => Decision::Permit(Permit::new(facts.intent, basis)),
        _ if load.open_requests >= load.open_requests_max => Decision::Deny(DenyReason::TooManyOpen),
        Some(_) => Decision::Ask(AskReason::SecretsMissing),
        None => Decision::Ask(AskReason::NoGrant),
    }
}

fn approved(
    facts: &Facts<'_>,
    trust: Trust,
    in_time: bool,
    trusted: bool,
    grant_revoked: bool,
    approved_at: Timestamp,
) -> Decision {
    if !in_time || facts.now < approved_at {
        return Decision::Deny(DenyReason::Expired);
    }
    let basis = if trusted {
        // It was never shown to the owner: the grant must stand right now.
        match covering_grant(facts) {
            Some(basis) => basis,
            None => return Decision::Deny(DenyReason::GrantGone),
        }
    } else if trust != Trust::Once && grant_revoked {
        return Decision::Deny(DenyReason::GrantGone);
    } else {
        Basis::Verdict
    };
    if facts.missing.is_empty() {
        Decision::Permit(Permit::new(facts.intent, basis))
    } else {
        Decision::Ask(AskReason::SecretsMissing)
    }
}

fn covering_grant(facts: &Facts<'_>) -> Option<Basis> {
    let grant = facts.grant?;
    grant.covers(&facts.intent.agent, &facts.intent.digest(), facts.now).then(|| Basis::Grant(grant.id.clone()))
}
