//! APIs: agents ask the proxy for one, the owner grants it, and assigns keys.

use crate::Broker;
use crate::broker::patiently;
use crate::intake::{Order, no_randomness};
use crate::submit::refusal;
use oauth3_core::{
    Access, AccessAsk, AgentName, ApiId, ApiInfo, ApiKey, AuditEvent, AuditKind, Connection, Digest, Execution, Fault,
    Grant, GrantId, Intent, KeeperEvent, MAX_MODELS, RequestId, Runtime, SecretName, SkillId, Status, Tag, Trust,
};
use oauth3_policy::{Decision, decide, gather};
use oauth3_provider::BaseUrl;
use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

/// Pause before the keeper is asked again that did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Open requests that are gone through for one that asks for the same.
const MAX_OPEN: u32 = 10_000;
/// Most keys of one API.
const MAX_KEYS: usize = 64;
/// Most connections.
const MAX_CONNECTIONS: usize = 256;
/// Most tags of one agent.
const MAX_TAGS: usize = 32;

impl Broker {
    /// The task that does what the proxy wants.
    pub(crate) async fn serve_proxy(broker: Weak<Self>) {
        loop {
            let Some(keeper) = broker.upgrade().map(|broker| broker.ports.keeper.clone()) else { return };
            let event = keeper.next_event().await;
            let Some(broker) = broker.upgrade() else { return };
            match event {
                Ok(KeeperEvent::Used { id, error }) => {
                    let used = broker.to_the_end(async move |broker| broker.finish_access(&id, error).await).await;
                    if let Err(fault) = used {
                        tracing::error!(%fault, "the end of a call is not stored; the next start marks it failed");
                    }
                }
                Ok(KeeperEvent::SignIn(connection)) => broker.sign_in_changed(&connection),
                Ok(KeeperEvent::Ask(ask)) => {
                    let number = ask.number;
                    let answer = broker.to_the_end(async move |broker| broker.ask_access(ask).await).await;
                    if let Err(fault) = patiently(keeper.answer_ask(number, answer)).await {
                        tracing::warn!(%fault, "the keeper did not hear what became of an ask");
                    }
                }
                Err(_) => {
                    drop(broker);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// The one call that a request was for has been made.
    async fn finish_access(&self, id: &RequestId, error: Option<String>) -> Result<(), Fault> {
        let execution = self.load(id).await?;
        if execution.intent.access.is_none() || execution.status != Status::Executing {
            return Ok(());
        }
        let to = if error.is_some() { Status::Failed } else { Status::Success };
        self.record_if_possible(crate::settle::finished(&execution, to, None)).await;
        self.finish_recorded(execution, to, None, error.map(|text| format!("failed: {text}"))).await.map(drop)
    }

    /// The keeper is gone, and with it every call that a yes was spent on.
    pub(crate) async fn end_calls(&self) {
        let ended = async {
            let executing = self.ports.store.executions(&[Status::Executing], MAX_OPEN).await?;
            for execution in executing.into_iter().filter(|execution| execution.intent.access.is_some()) {
                let error = "interrupted: the keeper stopped in the middle of the call; it is not made again";
                self.fail(execution, error.to_owned()).await?;
            }
            Ok::<_, Fault>(())
        };
        if let Err(fault) = ended.await {
            tracing::error!(%fault, "the end of a call is not stored; the next start marks it failed");
        }
    }

    /// Puts the use of an API to the owner, or finds that this was done.
    async fn ask_access(&self, ask: AccessAsk) -> Result<RequestId, Fault> {
        self.runs_code()?;
        let access =
            Access { api: ask.api, models: BTreeSet::new(), rules: BTreeSet::new(), budget: self.config.api_budget };
        let info = ApiInfo { title: ask.title, base: ask.base, host: ask.host };
        let (intent, terms) = self.intent_of(&ask.agent, access, &info)?;
        let digest = intent.digest();
        let waits = |execution: &Execution| execution.intent_digest == digest;
        let open = self.ports.store.executions(&[Status::Pending], MAX_OPEN).await?;
        if let Some(same) = open.iter().find(|execution| waits(execution)) {
            return Ok(same.id.clone());
        }
        let calls = self.admit(&ask.agent).await?;
        let _desk = self.desk.lock().await;
        let now = self.now();
        let gathered = gather(&*self.ports.store, &intent, None).await?;
        match decide(&gathered.submitted(&intent, self.load_of(&gathered, calls), now)) {
            Decision::Permit(_) => Err(Fault::AlreadyDecided("the owner granted it meanwhile; try again".to_owned())),
            Decision::Deny(reason) => Err(refusal(reason)),
            Decision::Ask(_) => {
                let claim = ask.model.map(|model| format!("wants to use the model {model}")).unwrap_or_default();
                let order = Order::of_access(intent, claim, terms);
                let execution = order.into_execution(now, self.config.pending_for)?;
                self.record(crate::submit::about(AuditKind::Asked, &execution)).await?;
                self.ports.store.insert_execution(&execution).await?;
                self.changed(&execution);
                Ok(execution.id)
            }
        }
    }

    /// What is shown, hashed and granted. The terms stand where code would.
    fn intent_of(&self, agent: &AgentName, access: Access, info: &ApiInfo) -> Result<(Intent, Vec<u8>), Fault> {
        let terms = access.described(&info.title, &info.base).into_bytes();
        let skill_id = SkillId::parse(access.api.as_str()).map_err(|e| Fault::InvalidRequest(e.to_string()))?;
        let intent = Intent {
            agent: agent.clone(),
            skill_id,
            code_digest: Digest::of(&terms),
            runtime: Runtime::Embedded,
            secrets: BTreeSet::new(),
            revealed: BTreeSet::new(),
            hosts: BTreeSet::from([info.host.clone()]),
            limits: self.config.ceilings.usual(),
            access: Some(access),
        };
        Ok((intent, terms))
    }

    /// What is known of an API.
    pub(crate) async fn api_info(&self, api: &ApiId) -> Result<ApiInfo, Fault> {
        if api.is_provider() {
            let text = || format!("there is no provider {}; see: oauth3 provider list", api.name());
            let known = self.config.catalog.provider(api.name()).ok_or_else(|| Fault::NotFound(text()))?;
            let base = known.base().map_err(|missing| Fault::InvalidRequest(missing.to_string()))?;
            return Ok(ApiInfo { title: known.title.clone(), base: base.to_string(), host: base.host().clone() });
        }
        let connections = self.ports.store.connections().await?;
        let connection = connections.into_iter().find(|connection| connection.api == *api);
        let text = || format!("there is no connection {}; see: oauth3 connection list", api.name());
        let connection = connection.ok_or_else(|| Fault::NotFound(text()))?;
        let base = BaseUrl::parse(&connection.base_url).map_err(|e| Fault::InvalidRequest(e.to_string()))?;
        Ok(ApiInfo { title: api.name().to_owned(), host: base.host().clone(), base: connection.base_url })
    }

    /// After the owner said yes to the use of an API: a standing grant is all there is to do; a yes to one call
    /// waits for that call.
    pub(crate) async fn go_access(&self, execution: Execution) -> Result<Execution, Fault> {
        let standing = execution.trust.is_some_and(|trust| trust != Trust::Once);
        if standing {
            self.record_if_possible(crate::settle::finished(&execution, Status::Success, None)).await;
            self.finish_recorded(execution, Status::Success, None, None).await
        } else {
            self.expiries.add(execution.expires_at, &execution.id);
            self.changed(&execution);
            self.refresh_proxy().await;
            Ok(execution)
        }
    }

    /// Grants an API without being asked, in place of what the agent was granted of it before.
    pub(crate) async fn give_access(
        &self,
        agent: &AgentName,
        access: Access,
        lifetime: Option<Duration>,
        by: &str,
    ) -> Result<Grant, Fault> {
        if access.models.len() > MAX_MODELS {
            return Err(Fault::InvalidRequest(format!("a grant names at most {MAX_MODELS} models")));
        }
        let active = self.ports.store.agent(agent).await?.is_some_and(|agent| agent.revoked_at.is_none());
        if !active {
            return Err(Fault::NotFound(format!("there is no active agent {agent}; see: oauth3 agent list")));
        }
        let info = self.api_info(&access.api).await?;
        let (intent, terms) = self.intent_of(agent, access, &info)?;
        let desk = self.desk.lock().await;
        let now = self.now();
        let grant = Grant {
            id: GrantId::random().ok_or_else(no_randomness)?,
            intent,
            trust: if lifetime.is_some() { Trust::Day } else { Trust::Forever },
            granted_at: now,
            expires_at: lifetime.map(|lifetime| now.plus(lifetime)),
            revoked_at: None,
            granted_by: by.to_owned(),
        };
        let event = AuditEvent::new(AuditKind::GrantChanged, by).agent(agent);
        let event = event.with("grant_id", grant.id.as_str()).with("change", "made");
        self.record(event.with("terms", String::from_utf8_lossy(&terms))).await?;
        let replaced = self.replace_access(&grant).await;
        drop(desk);
        self.refresh_proxy().await;
        replaced.map(|()| grant)
    }

    /// Stores a grant of an API; what stood of the same agent and API before is revoked.
    pub(crate) async fn replace_access(&self, grant: &Grant) -> Result<(), Fault> {
        let api = |grant: &Grant| grant.intent.access.as_ref().map(|access| access.api.clone());
        for old in self.ports.store.grants().await? {
            let same = old.intent.agent == grant.intent.agent && api(&old).is_some() && api(&old) == api(grant);
            if same && old.revoked_at.is_none() {
                self.ports.store.revoke_grant(&old.id, self.now()).await?;
            }
        }
        self.ports.store.insert_grant(grant).await
    }

    /// Assigns a stored secret to an API.
    pub(crate) async fn assign_key(&self, mut key: ApiKey, by: &str) -> Result<(), Fault> {
        let info = self.api_info(&key.api).await?;
        let secrets = self.ports.store.secrets().await?;
        let name = &key.secret;
        let add = format!("oauth3 secret add {name} --host {}", info.host);
        let secret = secrets.iter().find(|secret| secret.name == *name);
        let secret = secret.ok_or_else(|| Fault::NotFound(format!("there is no secret {name}; add it with: {add}")))?;
        if !secret.hosts.contains(&info.host) {
            let text = format!("{name} may not go to {}; bind it with: oauth3 secret rotate", info.host);
            return Err(Fault::InvalidRequest(text));
        }
        if let Some(agent) = &key.agent
            && self.ports.store.agent(agent).await?.is_none_or(|agent| agent.revoked_at.is_some())
        {
            return Err(Fault::NotFound(format!("there is no active agent {agent}; see: oauth3 agent list")));
        }
        let others = self.ports.store.api_keys().await?;
        if others.iter().filter(|other| other.api == key.api && other.secret != key.secret).count() >= MAX_KEYS {
            return Err(Fault::InvalidRequest(format!("an API has at most {MAX_KEYS} keys")));
        }
        key.created_at = self.now();
        let event = AuditEvent::new(AuditKind::ApiChanged, by).with("change", "key_added");
        let event = event.with("api", key.api.as_str()).with("secret", key.secret.as_str());
        let event = event.with("for_agent", key.agent.as_ref().map(|agent| agent.as_str()));
        self.record(event.with("for_tag", key.tag.as_ref().map(|tag| tag.as_str()))).await?;
        self.ports.store.put_api_key(&key).await?;
        self.refresh_proxy().await;
        Ok(())
    }

    /// Takes a key from an API.
    pub(crate) async fn withdraw_key(&self, api: &ApiId, secret: &SecretName, by: &str) -> Result<(), Fault> {
        let event = AuditEvent::new(AuditKind::ApiChanged, by).with("change", "key_removed");
        self.record_if_possible(event.with("api", api.as_str()).with("secret", secret.as_str())).await;
        if !self.ports.store.remove_api_key(api, secret).await? {
            return Err(Fault::NotFound(format!("{secret} is no key of {api}")));
        }
        self.refresh_proxy().await;
        Ok(())
    }

    /// Defines a connection.
    pub(crate) async fn define_connection(&self, mut connection: Connection, by: &str) -> Result<(), Fault> {
        let invalid = |text: String| Err(Fault::InvalidRequest(text));
        if connection.api.is_provider() {
            return invalid("a connection is written api/NAME".to_owned());
        }
        let base = match BaseUrl::parse(&connection.base_url) {
            Ok(base) => base,
            Err(error) => return invalid(error.to_string()),
        };
        if let Some(rule) = connection.rules.iter().find(|rule| rule.host() != base.host()) {
            return invalid(format!("the rule {rule:?} is about another host than {}", base.host()));
        }
        let known = self.ports.store.connections().await?;
        if known.iter().filter(|other| other.api != connection.api).count() >= MAX_CONNECTIONS {
            return invalid(format!("there are {MAX_CONNECTIONS} connections already"));
        }
        if let Some(setup) = &connection.sign_in
            && let Err(text) =
                crate::sign_in_setup::check(&self.config.identities, &connection.api, setup, base.host(), &known)
        {
            return invalid(text);
        }
        connection.base_url = base.to_string();
        connection.created_at = self.now();
        let event = AuditEvent::new(AuditKind::ApiChanged, by).with("change", "connection_defined");
        let event = event.with("api", connection.api.as_str()).with("base_url", connection.base_url.as_str());
        let event = event.with("key_place", connection.place.to_string());
        self.record(match &connection.sign_in {
            Some(setup) => event.with("sign_in", serde_json::to_value(setup).unwrap_or_default()),
            None => event,
        })
        .await?;
        self.ports.store.put_connection(&connection).await?;
        self.refresh_proxy().await;
        self.sign_in_changed(&connection.api);
        Ok(())
    }

    /// Removes a connection with its keys; whoever is signed in there is signed out first.
    pub(crate) async fn drop_connection(&self, api: &ApiId, by: &str) -> Result<(), Fault> {
        self.sign_out_before_removal(api, by).await;
        let event = AuditEvent::new(AuditKind::ApiChanged, by).with("change", "connection_removed");
        self.record_if_possible(event.with("api", api.as_str())).await;
        if !self.ports.store.remove_connection(api).await? {
            return Err(Fault::NotFound(format!("there is no connection {}", api.name())));
        }
        self.refresh_proxy().await;
        self.sign_in_changed(api);
        Ok(())
    }

    /// Replaces an agent's tags.
    pub(crate) async fn set_tags(&self, name: &AgentName, tags: BTreeSet<Tag>, by: &str) -> Result<(), Fault> {
        if tags.len() > MAX_TAGS {
            return Err(Fault::InvalidRequest(format!("an agent has at most {MAX_TAGS} tags")));
        }
        let list: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let event = AuditEvent::new(AuditKind::AgentChanged, by).agent(name).with("change", "tagged");
        self.record(event.with("tags", list)).await?;
        self.ports.store.set_agent_tags(name, &tags).await?;
        self.refresh_proxy().await;
        Ok(())
    }

    /// Has the keeper read anew what the proxy goes by. One that cannot read it permits nothing until it can; one that
    /// does not answer ends, and the next one reads everything.
    pub(crate) async fn refresh_proxy(&self) {
        if let Err(fault) = self.ports.keeper.refresh().await {
            tracing::error!(%fault, "the keeper did not take in what changed");
        }
    }
}
