//! What an agent may do.

use crate::Broker;
use crate::runs::EndReason;
use crate::submit::actor;
use crate::verdict::already_decided;
use async_trait::async_trait;
use oauth3_core::{
    AgentName, AgentPort, AgentRecord, AgentToken, ApiId, AuditEvent, AuditKind, ConnectionView, Draft, DryRun,
    Execution, Fault, Health, RequestId, SecretRecord, SignInAsked, Status, Submitted,
};
use std::time::Duration;

/// How long the keeper may take to answer a look at its health.
const PING_PATIENCE: Duration = Duration::from_secs(3);
/// How exactly it is kept when an agent was last seen.
const SEEN_EVERY: Duration = Duration::from_secs(60);

#[async_trait]
impl AgentPort for Broker {
    async fn authenticate(&self, token: Option<&AgentToken>) -> Result<AgentName, Fault> {
        match (token, &self.config.anonymous_agent) {
            (Some(token), _) => {
                let known = self.ports.store.agent_by_token(&token.id()).await?;
                match known.filter(|(agent, hash)| hash.matches(&token.hash()) && agent.revoked_at.is_none()) {
                    Some((agent, _)) => {
                        self.note_seen(&agent);
                        Ok(agent.name)
                    }
                    None => {
                        tracing::info!("a call with a token that is not valid was refused");
                        Err(Fault::InvalidToken("this token is not valid".to_owned()))
                    }
                }
            }
            (None, Some(name)) => {
                let active = self.ports.store.agent(name).await?.is_some_and(|agent| agent.revoked_at.is_none());
                if active && name.as_str() != AgentName::OWNER {
                    return Ok(name.clone());
                }
                Err(Fault::InvalidToken(format!("the agent {name} is not there; add it with: oauth3 agent add {name}")))
            }
            (None, None) => Err(Fault::InvalidToken("send the agent's token: Authorization: Bearer oa3_…".to_owned())),
        }
    }

    async fn submit(&self, agent: &AgentName, draft: Draft) -> Result<Submitted, Fault> {
        self.take_request(agent, draft).await
    }

    async fn dry_run(&self, agent: &AgentName, draft: Draft) -> Result<DryRun, Fault> {
        self.foretell(agent, draft).await
    }

    async fn execution(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault> {
        self.load(id).await.and_then(|execution| own(agent, execution))
    }

    async fn wait_change(
        &self,
        agent: &AgentName,
        id: &RequestId,
        seen: Status,
        patience: Duration,
    ) -> Result<Execution, Fault> {
        self.load(id).await.and_then(|execution| own(agent, execution))?;
        self.await_change(id, seen, patience).await
    }

    async fn cancel(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault> {
        let (agent, id) = (agent.clone(), id.clone());
        self.to_the_end(async move |broker| broker.take_back(&agent, &id).await).await
    }

    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        self.ports.store.secrets().await
    }

    async fn connections(&self) -> Result<Vec<ConnectionView>, Fault> {
        self.connection_views().await
    }

    async fn ask_sign_in(&self, agent: &AgentName, connection: &ApiId) -> Result<SignInAsked, Fault> {
        let (agent, connection) = (agent.clone(), connection.clone());
        self.to_the_end(async move |broker| broker.ask_for_sign_in(&agent, &connection).await).await
    }

    async fn health(&self) -> Health {
        Health {
            telegram: self.channel_health("telegram"),
            database: self.ports.store.check().await.is_ok(),
            keeper: matches!(tokio::time::timeout(PING_PATIENCE, self.ports.keeper.ping()).await, Ok(Ok(()))),
            executor: self.ports.runner.executor().to_owned(),
        }
    }
}

impl Broker {
    /// Notes in the background, and not at every call, that this agent is there.
    fn note_seen(&self, agent: &AgentRecord) {
        let now = self.now();
        if agent.last_seen_at.is_none_or(|last| now.since(last) >= SEEN_EVERY) {
            let (store, name) = (self.ports.store.clone(), agent.name.clone());
            self.spawn(async move {
                // What fails here is logged by the store and of no consequence.
                let _ = store.set_agent_seen(&name, now).await;
            });
        }
    }

    /// Waits until the status differs from `seen`, nothing can change any more, or patience ends.
    pub(crate) async fn await_change(
        &self,
        id: &RequestId,
        seen: Status,
        patience: Duration,
    ) -> Result<Execution, Fault> {
        let mut waiter = self.board.watch(id);
        let changed = async {
            loop {
                let execution = self.load(id).await?;
                if execution.status != seen || execution.status.is_final() {
                    return Ok(execution);
                }
                drop(execution);
                waiter.changed().await;
            }
        };
        match tokio::time::timeout(patience, changed).await {
            Ok(changed) => changed,
            Err(_) => self.load(id).await,
        }
    }

    async fn take_back(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault> {
        let desk = self.desk.lock().await;
        let execution = own(agent, self.load(id).await?)?;
        match execution.status {
            status if status.is_open() || status == Status::Approved && execution.intent.access.is_some() => {
                let event = AuditEvent::new(AuditKind::Cancelled, actor(agent)).request(id).agent(agent);
                self.record_if_possible(event).await;
                let from = execution.status;
                let error = EndReason::Cancelled.sentence().to_owned();
                self.settle(execution, from, Status::Cancelled, Some(error)).await?;
                self.load(id).await
            }
            Status::Approved | Status::Executing => {
                let gone = self.runs.end(id, EndReason::Cancelled);
                drop(desk);
                gone.wait().await;
                self.load(id).await
            }
            _ => Err(already_decided(&execution)),
        }
    }
}

/// Another agent's request is as good as none.
fn own(agent: &AgentName, execution: Execution) -> Result<Execution, Fault> {
    if execution.intent.agent == *agent {
        return Ok(execution);
    }
    Err(Fault::NotFound("there is no such request".to_owned()))
}
