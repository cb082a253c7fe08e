//! Sign-ins: the owner's orders and agents' wishes on their way to the keeper, and news of them to everybody.

use crate::Broker;
use crate::submit::actor;
use oauth3_core::{
    AgentName, ApiId, Connection, ConnectionView, Fault, SignInOrder, SignInRecord, SignInState, WriteOnly,
};
use std::time::Duration;

impl Broker {
    /// A sign-in went on: who waits for it and who shows it looks again, and so do requests that wait for its token.
    pub(crate) fn sign_in_changed(&self, connection: &ApiId) {
        self.sign_ins.changed(connection);
        for channel in self.channels() {
            channel.sign_in_changed(connection);
        }
        if let Some(broker) = self.me() {
            self.spawn(async move { broker.secrets_changed().await });
        }
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
        match tokio::time::timeout(patience, changed).await {
            Ok(changed) => changed,
            Err(_) => self.sign_in_record(connection).await,
        }
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
    pub(crate) async fn ask_for_sign_in(&self, agent: &AgentName, api: &ApiId) -> Result<ConnectionView, Fault> {
        self.admit(agent).await?;
        let connection = self.signed_in_at(api).await?;
        let record = self.sign_in_record(api).await?;
        let is_there = record.attempt.is_some() || record.state == SignInState::SignedIn;
        // A sign-in that nobody needs is not put to the owner: an agent could tire him with them.
        let record = if is_there { record } else { self.order(api, SignInOrder::Begin, &actor(agent)).await? };
        Ok(view(&connection, Some(&record)))
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
        status: setup.map(|_| record.map_or("signed_out", SignInRecord::word).to_owned()),
        scopes: setup.map(|setup| granted.unwrap_or(&setup.scopes).clone()).unwrap_or_default(),
        expires_at: record.and_then(|record| record.attempt.as_ref()).map(|attempt| attempt.expires_at),
    }
}
