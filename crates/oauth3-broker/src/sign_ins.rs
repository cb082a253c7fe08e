//! Sign-ins: the owner's orders and agents' wishes on their way to the keeper, and news of them to everybody.

use crate::Broker;
use crate::submit::actor;
use oauth3_core::{
    AgentName, ApiId, Connection, ConnectionView, Execution, Fault, SecretName, SignInAsked, SignInOrder, SignInRecord,
    SignInState, WriteOnly,
};
use oauth3_policy::sign_in_pause;
use std::time::Duration;

impl Broker {
    /// A sign-in went on: who waits for it and who shows it looks again, and so do requests that wait for its token.
    pub(crate) fn sign_in_changed(&self, connection: &ApiId) {
        let Some(broker) = self.me() else { return };
        let connection = connection.clone();
        self.spawn(async move {
            // Whoever is told that somebody has signed in may make a call at once, and the proxy must know it then.
            broker.refresh_proxy().await;
            broker.sign_ins.changed(&connection);
            for channel in broker.channels() {
                channel.sign_in_changed(&connection);
            }
            broker.secrets_changed().await;
        });
    }

    /// Does something with a sign-in; `by` is the owner, or the agent that may only ask.
    pub(crate) async fn order(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        self.signed_in_at(connection).await?;
        // It asks the identity provider; the wire bounds how long.
        let record = self.ports.keeper.order_sign_in(connection, order, by).await?;
        self.sign_in_changed(connection);
        Ok(record)
    }

    /// Stores a client secret.
    pub(crate) async fn take_client_secret(&self, name: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        self.signed_in_at(name).await?;
        crate::broker::patiently(self.ports.keeper.put_client_secret(name, value, by)).await
    }

    /// Revokes what a connection that goes away holds at the provider. That it could not be is no reason to keep it.
    pub(crate) async fn sign_out_before_removal(&self, connection: &ApiId, by: &str) {
        let holds = self.sign_in_record(connection).await.is_ok_and(|record| record.word() != "signed_out");
        if holds && let Err(fault) = self.order(connection, SignInOrder::SignOut, by).await {
            tracing::warn!(%connection, %fault, "the tokens of a connection that is removed could not be revoked");
        }
    }

    /// Waits until the record differs from the version that was seen.
    pub(crate) async fn await_sign_in(
        &self,
        connection: &ApiId,
        seen: u32,
        patience: Duration,
    ) -> Result<SignInRecord, Fault> {
        let mut waiter = self.sign_ins.watch(connection);
        let changed = async {
            loop {
                let record = self.sign_in_record(connection).await?;
                if record.version != seen {
                    return Ok(record);
                }
                waiter.changed().await;
            }
        };
        let record = match tokio::time::timeout(patience, changed).await {
            Ok(changed) => changed?,
            Err(_) => self.sign_in_record(connection).await?,
        };
        if record.version != seen {
            // It may have been stored a moment ago, with the news of it still on their way.
            self.refresh_proxy().await;
        }
        Ok(record)
    }

    /// The connections as an agent may know them.
    pub(crate) async fn connection_views(&self) -> Result<Vec<ConnectionView>, Fault> {
        let records = self.ports.store.sign_ins().await?;
        let view = |connection: Connection| {
            let record = records.iter().find(|record| record.connection == connection.api);
            view(&connection, record)
        };
        Ok(self.ports.store.connections().await?.into_iter().map(view).collect())
    }

    /// An agent asks the owner to sign in.
    pub(crate) async fn ask_for_sign_in(&self, agent: &AgentName, api: &ApiId) -> Result<SignInAsked, Fault> {
        self.admit(agent).await?;
        let connection = self.signed_in_at(api).await?;
        let record = self.begin_for(agent, api, false).await?;
        Ok(SignInAsked { view: view(&connection, Some(&record)), asked: self.asked() })
    }

    /// Begins the sign-ins whose tokens an approved request waits for, so that the owner has his codes at once.
    pub(crate) fn begin_missing(&self, execution: &Execution, missing: &[SecretName]) {
        let Some(broker) = self.me() else { return };
        let connections: Vec<ApiId> = missing.iter().filter_map(SecretName::connection).collect();
        let (agent, request) = (execution.intent.agent.clone(), execution.id.clone());
        // Under a standing grant the agent decides how often this comes; else the owner said yes just now.
        let meant = !execution.trusted;
        if connections.is_empty() {
            return;
        }
        self.spawn(async move {
            for connection in connections {
                // The request goes on waiting, and the owner can sign in by himself.
                if let Err(fault) = broker.begin_for(&agent, &connection, meant).await {
                    tracing::warn!(%request, %connection, %fault, "a sign-in that a request waits for did not begin");
                }
            }
        });
    }

    /// Begins a sign-in for an agent, unless there is nothing to sign in for, or the owner turned one down just now and
    /// it is not `meant` by him.
    async fn begin_for(&self, agent: &AgentName, api: &ApiId, meant: bool) -> Result<SignInRecord, Fault> {
        let record = self.sign_in_record(api).await?;
        // A sign-in that nobody needs is not put to the owner either.
        if record.attempt.is_some() || record.state == SignInState::SignedIn {
            return Ok(record);
        }
        // What is derived has the owner sign in at its parent: the no that counts is that one's.
        let from = self.signed_in_at(api).await?.sign_in.and_then(|setup| setup.from);
        let asked = match &from {
            Some(from) => self.sign_in_record(&from.parent).await?,
            None => record,
        };
        if let Some(pause) = sign_in_pause(asked.failure.as_ref(), self.now()).filter(|_| !meant) {
            let text = format!("the owner did not sign in to {} just now; he can do so by himself", api.name());
            return Err(Fault::RateLimited { text, retry_after: pause.as_secs() + 1 });
        }
        self.order(api, SignInOrder::Begin, &actor(agent)).await
    }

    async fn sign_in_record(&self, connection: &ApiId) -> Result<SignInRecord, Fault> {
        let found = self.ports.store.sealed_sign_in(connection).await?;
        Ok(found.map_or_else(|| SignInRecord::new(connection.clone()), |found| found.record))
    }

    /// The connection, when it is one that people sign in at.
    async fn signed_in_at(&self, api: &ApiId) -> Result<Connection, Fault> {
        let found = self.ports.store.connections().await?.into_iter().find(|connection| connection.api == *api);
        let name = api.name();
        let found = found.ok_or_else(|| Fault::NotFound(format!("there is no connection {name}")))?;
        if found.sign_in.is_none() {
            let text = format!("{name} takes a key, and nobody signs in at it; define it with --provider");
            return Err(Fault::InvalidRequest(text));
        }
        Ok(found)
    }
}

fn view(connection: &Connection, record: Option<&SignInRecord>) -> ConnectionView {
    let setup = connection.sign_in.as_ref();
    let granted = record.map(|record| &record.granted).filter(|granted| !granted.is_empty());
    ConnectionView {
        name: connection.api.name().to_owned(),
        base_url: connection.base_url.clone(),
        provider: setup.map(|setup| setup.provider.clone()),
        from: setup.and_then(|setup| setup.from.as_ref()).map(|from| from.parent.name().to_owned()),
        status: setup.map(|_| record.map_or("signed_out", SignInRecord::word).to_owned()),
        scopes: setup.map(|setup| granted.unwrap_or(&setup.scopes).clone()).unwrap_or_default(),
        expires_at: record.and_then(|record| record.attempt.as_ref()).map(|attempt| attempt.expires_at),
    }
}
