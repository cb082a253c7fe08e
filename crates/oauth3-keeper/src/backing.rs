//! What the proxy needs of the keeper.

use crate::audit::Audit;
use crate::sign_in::SignIns;
use async_trait::async_trait;
use oauth3_core::{AgentName, AuditEvent, Clock, Execution, Fault, SecretName, Status, Store};
use oauth3_inject::lend;
use oauth3_proxy::{Backing, Lent};
use oauth3_vault::{SecretBytes, Vault};
use std::sync::Arc;
use std::time::Duration;

/// Store, vault and audit chain.
pub(crate) struct Counter {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) sign_ins: Arc<SignIns>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Backing for Counter {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    async fn lend(&self, secret: &SecretName) -> Result<Lent, Fault> {
        let sealed = self.store.sealed_secret(secret).await?;
        let sealed = sealed.ok_or_else(|| Fault::DeniedByPolicy(format!("{secret} was removed meanwhile")))?;
        let value = self.vault.unseal(&sealed).map_err(|error| {
            tracing::error!(%error, "a key cannot be lent");
            Fault::Unavailable(format!("{secret} cannot be unsealed; set it again"))
        })?;
        let leases = lend(&sealed.record, value, self.clock.now(), Duration::ZERO).map_err(|error| {
            tracing::error!(%error, "a key cannot be lent");
            Fault::Unavailable(format!("{secret}: {error}"))
        })?;
        Ok(Lent { leases, version: sealed.record.version })
    }

    fn authority_seed(&self, agent: &AgentName) -> Result<SecretBytes, Fault> {
        self.vault.authority_seed(agent).map_err(|error| {
            tracing::error!(%error, "an agent's certificate authority cannot be derived");
            Fault::Unavailable("the certificate authority of this agent cannot be made".into())
        })
    }

    async fn fresh(&self, token: &SecretName) -> Result<u32, Fault> {
        self.sign_ins.fresh(token).await
    }

    async fn renew(&self, token: &SecretName, refused: u32) -> Result<Option<u32>, Fault> {
        self.sign_ins.renew(token, refused).await
    }

    async fn record(&self, events: &[AuditEvent]) -> Result<(), Fault> {
        self.audit.append(events).await
    }

    async fn record_and_move(&self, events: &[AuditEvent], next: &Execution, from: Status) -> Result<bool, Fault> {
        self.audit.append_and_move(events, next, from).await
    }
}
