//! The audit chain's only writer.

use oauth3_core::{AuditEvent, AuditKind, ChainReport, Clock, Fault, Store};
use oauth3_vault::Vault;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Largest detail of one row, in bytes of JSON (64 KiB).
const MAX_DETAIL_BYTES: usize = 64 << 10;
/// Longest actor, in bytes.
const MAX_ACTOR_BYTES: usize = 256;

/// Appends to the chain, one row after the other.
pub(crate) struct Audit {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    turn: Mutex<()>,
}

impl Audit {
    pub(crate) fn new(store: Arc<dyn Store>, vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { store, vault, clock, turn: Mutex::new(()) }
    }

    /// Appends; on disk when it returns.
    pub(crate) async fn append(&self, event: &AuditEvent) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        self.store.append_audit(event, self.clock.now(), &*self.vault).await.map(drop)
    }

    /// Appends what somebody else wants recorded. What only the keeper does, only the keeper records.
    pub(crate) async fn append_for_gateway(&self, event: &AuditEvent) -> Result<(), Fault> {
        let own = matches!(
            event.kind,
            AuditKind::RunOpened | AuditKind::SecretUsed | AuditKind::EgressRefused | AuditKind::RunClosed
        );
        if own || event.actor == ACTOR {
            return Err(Fault::InvalidRequest("only the keeper itself records this".into()));
        }
        let detail = serde_json::to_vec(&event.detail).map_or(usize::MAX, |json| json.len());
        if detail > MAX_DETAIL_BYTES || event.actor.len() > MAX_ACTOR_BYTES {
            return Err(Fault::TooLarge(format!("an audit row's detail is larger than {MAX_DETAIL_BYTES} bytes")));
        }
        self.append(event).await
    }

    /// Checks the whole chain.
    pub(crate) async fn verify(&self) -> Result<ChainReport, Fault> {
        self.store.verify_audit(&*self.vault).await
    }
}

/// Who the keeper is in the chain.
pub(crate) const ACTOR: &str = "keeper";
