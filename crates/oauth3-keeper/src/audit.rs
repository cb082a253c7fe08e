//! The audit chain's only writer.

use oauth3_core::{AuditEvent, AuditKind, ChainReport, Clock, Execution, Fault, Status, Store};
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

    /// Appends, all or nothing; on disk when it returns.
    pub(crate) async fn append(&self, events: &[AuditEvent]) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        self.store.append_audit(events, self.clock.now(), &*self.vault).await.map(drop)
    }

    /// Appends and moves a request, both or neither; false when it is not where it should be.
    pub(crate) async fn append_and_move(
        &self,
        events: &[AuditEvent],
        execution: &Execution,
        from: Status,
    ) -> Result<bool, Fault> {
        let _turn = self.turn.lock().await;
        let now = self.clock.now();
        self.store.append_audit_and_transition(events, now, &*self.vault, execution, from).await
    }

    /// Appends what somebody else wants recorded.
    pub(crate) async fn append_for_gateway(&self, event: &AuditEvent) -> Result<(), Fault> {
        Self::check(event)?;
        self.append(std::slice::from_ref(event)).await
    }

    /// Whether the gateway may have this recorded: what only the keeper does, only the keeper records.
    pub(crate) fn check(event: &AuditEvent) -> Result<(), Fault> {
        let own = matches!(
            event.kind,
            AuditKind::Granted
                | AuditKind::RunOpened
                | AuditKind::SecretUsed
                | AuditKind::SecretRevealed
                | AuditKind::EgressRefused
                | AuditKind::RunClosed
                | AuditKind::ApiCalled
                | AuditKind::ApiEnded
                | AuditKind::ApiRefused
                | AuditKind::HostReached
                | AuditKind::HostLeft
                | AuditKind::SignIn
                | AuditKind::TokenRefresh
                | AuditKind::SignedOut
        );
        if own || event.actor == ACTOR {
            return Err(Fault::InvalidRequest("only the keeper itself records this".into()));
        }
        if event.detail.as_str().len() > MAX_DETAIL_BYTES || event.actor.len() > MAX_ACTOR_BYTES {
            return Err(Fault::TooLarge(format!("an audit row's detail is larger than {MAX_DETAIL_BYTES} bytes")));
        }
        Ok(())
    }

    /// Checks the whole chain.
    pub(crate) async fn verify(&self) -> Result<ChainReport, Fault> {
        self.store.verify_audit(&*self.vault).await
    }
}

/// Who the keeper is in the chain.
pub(crate) const ACTOR: &str = "keeper";
