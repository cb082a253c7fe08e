//! Reads the facts of a decision through the store's port.

use crate::facts::{Facts, Stage};
use oauth3_core::{AgentName, Execution, Fault, Grant, Intent, Reveal, SecretName, Standing, Store, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Facts that were read from the store, owned, so that [`Facts`] can borrow them.
#[derive(Debug, Clone)]
pub struct Gathered {
    standing: Standing,
    agent_active: bool,
    missing: Vec<SecretName>,
    revealed: BTreeSet<SecretName>,
    reveal_once: bool,
}

impl Gathered {
    /// The secrets that are named and not stored.
    #[must_use]
    pub fn missing(&self) -> &[SecretName] {
        &self.missing
    }

    /// The standing grant that was found; the decision says whether it counts.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        self.standing.grant.as_ref()
    }

    /// How many requests of the agent wait for a verdict or a secret.
    #[must_use]
    pub const fn open_requests(&self) -> u32 {
        self.standing.open_requests
    }

    /// Facts about something that just came in.
    #[must_use]
    pub fn submitted<'a>(&'a self, intent: &'a Intent, load: crate::Load, now: Timestamp) -> Facts<'a> {
        self.facts(intent, Stage::Submitted(load), now)
    }

    /// Facts about a stored request.
    #[must_use]
    pub fn stored<'a>(&'a self, execution: &'a Execution, now: Timestamp) -> Facts<'a> {
        let stage = Stage::Stored {
            status: execution.status,
            trust: execution.trust,
            approved_at: execution.approved_at,
            expires_at: execution.expires_at,
            trusted: execution.trusted,
            grant_revoked: self.standing.grant_revoked,
        };
        self.facts(&execution.intent, stage, now)
    }

    fn facts<'a>(&'a self, intent: &'a Intent, stage: Stage, now: Timestamp) -> Facts<'a> {
        Facts {
            intent: Arc::new(intent.clone()),
            now,
            kill_switch: self.standing.kill_switch,
            agent_active: self.agent_active,
            grant: self.grant(),
            missing: &self.missing,
            revealed: &self.revealed,
            reveal_once: self.reveal_once,
            stage,
        }
    }
}

/// Reads what a decision on this intent needs. `execution` is the stored request, when there is one.
///
/// # Errors
/// When the store does not answer; then nothing may be permitted.
pub async fn gather(store: &dyn Store, intent: &Intent, execution: Option<&Execution>) -> Result<Gathered, Fault> {
    let own_grant = execution.and_then(|execution| execution.grant_id.as_ref());
    let standing = store.standing(&intent.agent, &intent.digest(), own_grant).await?;
    let agent_active = intent.agent.as_str() == AgentName::OWNER || standing.agent_active;
    let stored = if intent.secrets.is_empty() { Vec::new() } else { store.secrets().await? };
    let named: Vec<_> = stored.iter().filter(|secret| intent.secrets.contains(&secret.name)).collect();
    let missing = intent.secrets.iter().filter(|name| !named.iter().any(|s| s.name == **name)).cloned().collect();
    let revealed = named.iter().filter(|s| s.uses.reveal.is_on()).map(|s| s.name.clone()).collect();
    let reveal_once = named.iter().any(|secret| secret.uses.reveal == Reveal::Once);
    Ok(Gathered { standing, agent_active, missing, revealed, reveal_once })
}
