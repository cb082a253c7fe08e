//! Authorization as a value that is spent.

use oauth3_core::{Access, Digest, GrantId, Host, Intent, Limits, SecretName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why something is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The owner's verdict on this very request.
    Verdict,
    /// A standing grant.
    Grant(GrantId),
}

/// The right to do what one intent says once, under its conditions. Made by [`crate::decide`] only; neither
/// cloned nor stored; whoever acts on it takes it by value.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is spent by doing what it permits"]
pub struct Permit {
    intent: Arc<Intent>,
    basis: Basis,
    once: bool,
}

impl Permit {
    pub(crate) const fn new(intent: Arc<Intent>, basis: Basis, once: bool) -> Self {
        Self { intent, basis, once }
    }

    /// The intent that it is for.
    #[must_use]
    pub fn intent_digest(&self) -> Digest {
        self.intent.digest()
    }

    /// The only secrets whose placeholders may be handed out.
    #[must_use]
    pub fn secrets(&self) -> &BTreeSet<SecretName> {
        &self.intent.secrets
    }

    /// Those of them whose real values the code gets, and no others.
    #[must_use]
    pub fn revealed(&self) -> &BTreeSet<SecretName> {
        &self.intent.revealed
    }

    /// Whether the owner said yes to this one request, and to no others like it.
    #[must_use]
    pub const fn is_for_once(&self) -> bool {
        self.once
    }

    /// The only hosts that may be dialled.
    #[must_use]
    pub fn hosts(&self) -> &BTreeSet<Host> {
        &self.intent.hosts
    }

    /// What the run may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.intent.limits
    }

    /// The use of an API that it is for, when it is for that and not for a run.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.intent.access.as_ref()
    }

    /// Why it is permitted.
    #[must_use]
    pub const fn basis(&self) -> &Basis {
        &self.basis
    }
}
