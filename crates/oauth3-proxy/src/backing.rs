//! What the proxy needs of the keeper.

use async_trait::async_trait;
use oauth3_core::{AgentName, AuditEvent, Execution, Fault, SecretName, Status, Store};
use oauth3_vault::{Lease, SecretBytes};

/// A key, lent by the vault.
pub struct Lent {
    /// The key, bound to its hosts; more than one part for AWS credentials.
    pub leases: Vec<Lease>,
    /// Counts values of the secret.
    pub version: u32,
}

/// State, the vault and the audit chain, as the keeper has them.
#[async_trait]
pub trait Backing: Send + Sync {
    /// Durable state.
    fn store(&self) -> &dyn Store;

    /// Opens a secret, as it was sealed: its hosts and uses are the owner's.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    async fn lend(&self, secret: &SecretName) -> Result<Lent, Fault>;

    /// What the key of an agent's certificate authority is made from.
    ///
    /// # Errors
    /// When it cannot be derived.
    fn authority_seed(&self, agent: &AgentName) -> Result<SecretBytes, Fault>;

    /// Sees to it that the access token of a connection is good now; gives its version.
    ///
    /// # Errors
    /// When nobody is signed in, or the token cannot be renewed: a sentence that says what the owner does.
    async fn fresh(&self, token: &SecretName) -> Result<u32, Fault>;

    /// An API did not take this version of a connection's token: gives that of another, when there is one or it could
    /// be renewed.
    ///
    /// # Errors
    /// As [`Backing::fresh`].
    async fn renew(&self, token: &SecretName, refused: u32) -> Result<Option<u32>, Fault>;

    /// Appends to the audit chain, all or nothing; on disk when it returns.
    ///
    /// # Errors
    /// When it cannot be written: then nothing of it may happen.
    async fn record(&self, events: &[AuditEvent]) -> Result<(), Fault>;

    /// The same, and moves a request, both or neither. False when it is not where it should be.
    ///
    /// # Errors
    /// As [`Backing::record`].
    async fn record_and_move(&self, events: &[AuditEvent], next: &Execution, from: Status) -> Result<bool, Fault>;
}
