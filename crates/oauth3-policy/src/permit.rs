//! Authorization as a value that is spent.

use oauth3_core::{Digest, GrantId, Host, Intent, Limits, SecretName};
use std::collections::BTreeSet;

/// Why something is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The owner's verdict on this very request.
    Verdict,
    /// A standing grant.
    Grant(GrantId),
}

/// The right to run one intent once, under its conditions. Made by [`crate::decide`] only; neither
/// cloned nor stored; whoever acts on it takes it by value.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is spent by running what it permits"]
pub struct Permit {
    intent_digest: Digest,
    secrets: BTreeSet<SecretName>,
    revealed: BTreeSet<SecretName>,
    hosts: BTreeSet<Host>,
    limits: Limits,
    basis: Basis,
    once: bool,
}

impl Permit {
    pub(crate) fn new(intent: &Intent, basis: Basis, once: bool) -> Self {
        Self {
            intent_digest: intent.digest(),
            secrets: intent.secrets.clone(),
            revealed: intent.revealed.clone(),
            hosts: intent.hosts.clone(),
            limits: intent.limits,
            basis,
            once,
        }
    }

    /// The intent that it is for.
    #[must_use]
    pub const fn intent_digest(&self) -> &Digest {
        &self.intent_digest
    }

    /// The only secrets whose placeholders may be handed out.
    #[must_use]
    pub const fn secrets(&self) -> &BTreeSet<SecretName> {
        &self.secrets
    }

    /// Those of them whose real values the code gets, and no others.
    #[must_use]
    pub const fn revealed(&self) -> &BTreeSet<SecretName> {
        &self.revealed
    }

    /// Whether the owner said yes to this one request, and to no others like it.
    #[must_use]
    pub const fn is_for_once(&self) -> bool {
        self.once
    }

    /// The only hosts that may be dialled.
    #[must_use]
    pub const fn hosts(&self) -> &BTreeSet<Host> {
        &self.hosts
    }

    /// What the run may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Why it is permitted.
    #[must_use]
    pub const fn basis(&self) -> &Basis {
        &self.basis
    }
}
