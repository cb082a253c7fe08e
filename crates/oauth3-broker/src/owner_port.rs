//! What the owner may do.

use crate::Broker;
use crate::broker::patiently;
use crate::intake::no_randomness;
use async_trait::async_trait;
use oauth3_core::{
    Access, AgentName, AgentRecord, AgentToken, ApiCheck, ApiId, ApiKey, AuditEvent, AuditKind, AuditRow, ChainReport,
    Connection, Draft, Execution, Fault, Grant, GrantId, NewSecret, OwnerOverview, OwnerPort, RequestId, SecretName,
    SecretRecord, SignInOrder, SignInRecord, Status, Submitted, Tag, UsageRow, Verdict, WriteOnly,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest text about a stranger's try that the audit keeps, in characters.
const MAX_STRANGER_CHARS: usize = 200;

#[async_trait]
impl OwnerPort for Broker {
    async fn verdict(&self, id: &RequestId, verdict: Verdict, by: &str) -> Result<Execution, Fault> {
        let (id, by) = (id.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.decide_request(&id, verdict, &by).await).await
    }

    async fn show(&self, id: &RequestId) -> Result<Execution, Fault> {
        self.load(id).await
    }

    async fn requests(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        self.ports.store.executions(statuses, limit).await
    }

    async fn wait(&self, id: &RequestId, seen: Status, patience: Duration) -> Result<Execution, Fault> {
        self.await_change(id, seen, patience).await
    }

    async fn submit(&self, draft: Draft) -> Result<Submitted, Fault> {
        let owner = AgentName::parse(AgentName::OWNER).map_err(|e| Fault::InvalidRequest(e.to_string()))?;
        self.take_request(&owner, draft).await
    }

    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        self.ports.store.grants().await
    }

    async fn revoke_grant(&self, id: &GrantId, by: &str) -> Result<(), Fault> {
        let (id, by) = (id.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.take_grant(&id, &by).await).await
    }

    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        self.ports.store.secrets().await
    }

    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        patiently(self.ports.keeper.put_secret(secret, value)).await?;
        self.secrets_changed().await;
        Ok(())
    }

    async fn remove_secret(&self, name: &SecretName, by: &str) -> Result<(), Fault> {
        let (name, by) = (name.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.take_secret(&name, &by).await).await
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        self.ports.store.agents().await
    }

    async fn add_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault> {
        if name.as_str() == AgentName::OWNER {
            return Err(Fault::InvalidRequest("owner is the owner's own name; choose another".to_owned()));
        }
        if self.ports.store.agent(name).await?.is_some() {
            return Err(Fault::Exists(format!("there is or was an agent {name}; choose another name")));
        }
        let token = AgentToken::random().ok_or_else(no_randomness)?;
        self.record(AuditEvent::new(AuditKind::AgentChanged, by).agent(name).with("change", "added")).await?;
        self.ports.store.insert_agent(name, &token.id(), &token.hash(), self.now()).await?;
        self.refresh_proxy().await;
        Ok(token)
    }

    async fn rotate_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault> {
        let (name, by) = (name.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.replace_token(&name, &by).await).await
    }

    async fn revoke_agent(&self, name: &AgentName, by: &str) -> Result<(), Fault> {
        let (name, by) = (name.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.take_agent(&name, &by).await).await
    }

    async fn tag_agent(&self, name: &AgentName, tags: BTreeSet<Tag>, by: &str) -> Result<(), Fault> {
        let (name, by) = (name.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.set_tags(&name, tags, &by).await).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        self.ports.store.api_keys().await
    }

    async fn put_api_key(&self, key: ApiKey, by: &str) -> Result<(), Fault> {
        let by = by.to_owned();
        self.to_the_end(async move |broker| broker.assign_key(key, &by).await).await
    }

    async fn remove_api_key(&self, api: &ApiId, secret: &SecretName, by: &str) -> Result<(), Fault> {
        let (api, secret, by) = (api.clone(), secret.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.withdraw_key(&api, &secret, &by).await).await
    }

    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        self.ports.store.connections().await
    }

    async fn put_connection(&self, connection: Connection, by: &str) -> Result<(), Fault> {
        let by = by.to_owned();
        self.to_the_end(async move |broker| broker.define_connection(connection, &by).await).await
    }

    async fn remove_connection(&self, api: &ApiId, by: &str) -> Result<(), Fault> {
        let (api, by) = (api.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.drop_connection(&api, &by).await).await
    }

    async fn grant_access(
        &self,
        agent: &AgentName,
        access: Access,
        lifetime: Option<Duration>,
        by: &str,
    ) -> Result<Grant, Fault> {
        let (agent, by) = (agent.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.give_access(&agent, access, lifetime, &by).await).await
    }

    async fn check_api(&self, api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        self.ports.keeper.check_api(api).await
    }

    async fn usage(&self, since_day: i64) -> Result<Vec<UsageRow>, Fault> {
        // What the keeper still has in its hands is stored first.
        self.refresh_proxy().await;
        self.ports.store.usage(since_day).await
    }

    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        self.ports.store.sign_ins().await
    }

    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        let (connection, by) = (connection.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.order(&connection, order, &by).await).await
    }

    async fn wait_sign_in(&self, connection: &ApiId, seen: u32, patience: Duration) -> Result<SignInRecord, Fault> {
        self.await_sign_in(connection, seen, patience).await
    }

    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        let (connection, by) = (connection.clone(), by.to_owned());
        self.to_the_end(async move |broker| broker.take_client_secret(&connection, value, &by).await).await
    }

    async fn overview(&self) -> Result<OwnerOverview, Fault> {
        let store = &self.ports.store;
        let mut open_requests = 0usize;
        let mut names: Vec<AgentName> = store.agents().await?.into_iter().map(|agent| agent.name).collect();
        names.extend(AgentName::parse(AgentName::OWNER));
        for name in &names {
            let open = store.open_count(name).await?;
            open_requests = open_requests.saturating_add(usize::try_from(open).unwrap_or(usize::MAX));
        }
        Ok(OwnerOverview { kill_switch: store.kill_switch().await?, open_requests, running: self.runs.count() })
    }

    async fn set_kill_switch(&self, on: bool, by: &str) -> Result<(), Fault> {
        let by = by.to_owned();
        self.to_the_end(async move |broker| broker.turn_kill_switch(on, &by).await).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        self.ports.store.audit_after(seq, limit).await
    }

    async fn audit_head(&self) -> Result<i64, Fault> {
        self.ports.store.audit_head().await
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        // As long as the chain is; the keeper's own patience bounds it.
        self.ports.keeper.verify_audit().await
    }

    async fn report_stranger(&self, by: &str, what: &str) -> Result<(), Fault> {
        let what: String = what.chars().take(MAX_STRANGER_CHARS).collect();
        self.record(AuditEvent::new(AuditKind::VerdictRefused, by).with("what", what)).await
    }
}
