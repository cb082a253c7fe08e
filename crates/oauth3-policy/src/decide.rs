//! The decision itself.

use crate::facts::{Facts, Load, Stage};
use crate::permit::{Basis, Permit};
use oauth3_core::{Intent, SecretName, Status, Timestamp, Trust};
use std::fmt;
use std::sync::Arc;

/// What the PDP says.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[allow(clippy::large_enum_variant, reason = "made once for a decision and taken apart at once")]
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
    /// Whether code gets a secret's real value is not as it was when this was asked for.
    RevealChanged,
    /// More trust than once, for code that gets a real value which the owner gives once at a time.
    RevealOnce,
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
            Self::RevealChanged => {
                "whether the code gets a secret's REAL VALUE was changed after this was asked for; it must be asked again"
            }
            Self::RevealOnce => {
                "the code gets a secret's REAL VALUE, so this can be approved once only; a secret that was stored with \
                 --reveal-trust allows more"
            }
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
            if facts.now >= expires_at {
                Decision::Deny(DenyReason::Expired)
            } else if reveal_changed(facts) {
                Decision::Deny(DenyReason::RevealChanged)
            } else {
                Decision::Ask(AskReason::NoGrant)
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
    if reveal_changed(facts) {
        return Decision::Deny(DenyReason::RevealChanged);
    }
    match covering_grant(facts) {
        Some(basis) if facts.missing.is_empty() => {
            Decision::Permit(Permit::new(Arc::clone(&facts.intent), basis, false))
        }
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
    if reveal_changed(facts) {
        return Decision::Deny(DenyReason::RevealChanged);
    }
    let basis = if trusted {
        // It was never shown to the owner: the grant must stand right now.
        match covering_grant(facts) {
            Some(basis) => basis,
            None => return Decision::Deny(DenyReason::GrantGone),
        }
    } else if trust != Trust::Once && facts.reveal_once {
        return Decision::Deny(DenyReason::RevealOnce);
    } else if trust != Trust::Once && grant_revoked {
        return Decision::Deny(DenyReason::GrantGone);
    } else {
        Basis::Verdict
    };
    if facts.missing.is_empty() {
        let once = basis == Basis::Verdict && trust == Trust::Once;
        Decision::Permit(Permit::new(Arc::clone(&facts.intent), basis, once))
    } else {
        Decision::Ask(AskReason::SecretsMissing)
    }
}

/// Whether a secret that is there is stored otherwise than the intent says. One that is missing is asked for first.
fn reveal_changed(facts: &Facts<'_>) -> bool {
    let Intent { secrets, revealed, .. } = &*facts.intent;
    let stored = |name: &&SecretName| !facts.missing.contains(name);
    !revealed.is_subset(secrets)
        || secrets.iter().filter(stored).any(|name| revealed.contains(name) != facts.revealed.contains(name))
}

fn covering_grant(facts: &Facts<'_>) -> Option<Basis> {
    let grant = facts.grant.filter(|_| !facts.reveal_once)?;
    grant.covers(&facts.intent, facts.now).then(|| Basis::Grant(grant.id.clone()))
}
