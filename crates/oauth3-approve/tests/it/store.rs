//! The store's side of the broker in memory.

use crate::world::{Broker, unused};
use async_trait::async_trait;
use oauth3_core::*;

#[async_trait]
impl Store for Broker {
    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
    async fn insert_agent(&self, _: &AgentName, _: &TokenId, _: &TokenHash, _: Timestamp) -> Result<(), Fault> {
        unused()
    }
    async fn replace_token(&self, _: &AgentName, _: &TokenId, _: &TokenHash, _: Timestamp) -> Result<(), Fault> {
        unused()
    }
    async fn revoke_agent(&self, _: &AgentName, _: Timestamp) -> Result<(), Fault> {
        unused()
    }
    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        unused()
    }
    async fn agent(&self, _: &AgentName) -> Result<Option<AgentRecord>, Fault> {
        unused()
    }
    async fn agent_by_token(&self, _: &TokenId) -> Result<Option<(AgentRecord, TokenHash)>, Fault> {
        unused()
    }
    async fn put_secret(&self, _: &SealedSecret) -> Result<(), Fault> {
        unused()
    }
    async fn sealed_secret(&self, _: &SecretName) -> Result<Option<SealedSecret>, Fault> {
        unused()
    }
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        unused()
    }
    async fn remove_secret(&self, _: &SecretName) -> Result<(), Fault> {
        unused()
    }
    async fn insert_execution(&self, _: &Execution) -> Result<(), Fault> {
        unused()
    }
    async fn execution(&self, id: &RequestId) -> Result<Option<Execution>, Fault> {
        Ok(self.get(id))
    }
    async fn executions(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        let all = self.executions.lock().unwrap();
        let mut found: Vec<Execution> =
            all.values().filter(|e| statuses.is_empty() || statuses.contains(&e.status)).cloned().collect();
        found.sort_by_key(|e| std::cmp::Reverse(e.created_at));
        found.truncate(limit as usize);
        Ok(found)
    }
    async fn unnotified(&self, _: u32) -> Result<Vec<Execution>, Fault> {
        unused()
    }
    async fn open_count(&self, _: &AgentName) -> Result<u32, Fault> {
        unused()
    }
    async fn transition(&self, _: &Execution, _: Status) -> Result<bool, Fault> {
        unused()
    }
    async fn set_notified(&self, _: &RequestId, _: Timestamp) -> Result<(), Fault> {
        unused()
    }
    async fn insert_grant(&self, _: &Grant) -> Result<(), Fault> {
        unused()
    }
    async fn standing(&self, _: &AgentName, _: &Digest, _: Option<&GrantId>) -> Result<Standing, Fault> {
        unused()
    }
    async fn grant(&self, _: &GrantId) -> Result<Option<Grant>, Fault> {
        unused()
    }
    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        unused()
    }
    async fn revoke_grant(&self, _: &GrantId, _: Timestamp) -> Result<bool, Fault> {
        unused()
    }
    async fn kill_switch(&self) -> Result<bool, Fault> {
        unused()
    }
    async fn set_kill_switch(&self, _: bool) -> Result<(), Fault> {
        unused()
    }
    async fn note(&self, channel: &str, key: &str) -> Result<Option<serde_json::Value>, Fault> {
        assert_eq!(channel, "telegram");
        Ok(self.notes.lock().unwrap().get(key).cloned())
    }
    async fn notes(&self, channel: &str, prefix: &str) -> Result<Vec<(String, serde_json::Value)>, Fault> {
        assert_eq!(channel, "telegram");
        let notes = self.notes.lock().unwrap();
        Ok(notes.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    async fn set_note(&self, channel: &str, key: &str, value: Option<&serde_json::Value>) -> Result<(), Fault> {
        assert_eq!(channel, "telegram");
        let mut notes = self.notes.lock().unwrap();
        match value {
            Some(value) => drop(notes.insert(key.to_owned(), value.clone())),
            None => drop(notes.remove(key)),
        }
        drop(notes);
        self.touch();
        Ok(())
    }
    async fn append_audit(&self, _: &[AuditEvent], _: Timestamp, _: &dyn AuditMac) -> Result<i64, Fault> {
        unused()
    }
    async fn append_audit_and_transition(
        &self,
        _: &[AuditEvent],
        _: Timestamp,
        _: &dyn AuditMac,
        _: &Execution,
        _: Status,
    ) -> Result<bool, Fault> {
        unused()
    }
    async fn audit_after(&self, _: i64, _: u32) -> Result<Vec<AuditRow>, Fault> {
        unused()
    }
    async fn refusals(&self, id: &RequestId, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        let refused =
            |row: &&AuditRow| row.event.kind == AuditKind::EgressRefused && row.event.request_id.as_ref() == Some(id);
        Ok(self.audit.lock().unwrap().iter().filter(refused).take(limit as usize).cloned().collect())
    }
    async fn audit_head(&self) -> Result<i64, Fault> {
        unused()
    }
    async fn verify_audit(&self, _: &dyn AuditMac) -> Result<ChainReport, Fault> {
        unused()
    }
}
