//! A sign-in as it stands: read, and written over the version that it was read from.

use super::SignIns;
use super::kept::Kept;
use oauth3_core::{
    ApiId, Connection, Fault, Kind, SealedSecret, SealedSignIn, SecretName, SecretRecord, SignInRecord, SignInSetup,
    SignInState, TokenChange, Uses,
};
use oauth3_vault::SecretBytes;

/// A sign-in with its tokens open.
pub(super) struct Held {
    pub(super) connection: Connection,
    pub(super) setup: SignInSetup,
    pub(super) record: SignInRecord,
    pub(super) kept: Kept,
}

/// What becomes of the access token.
pub(super) enum Token {
    Keep,
    Put(SecretBytes),
    Remove,
}

impl SignIns {
    /// Reads one. Tokens of another setup do not open: then there are none.
    pub(super) async fn load(&self, api: &ApiId) -> Result<Held, Fault> {
        let name = api.name();
        let connections = self.store.connections().await?;
        let connection = connections.into_iter().find(|connection| connection.api == *api);
        let connection = connection.ok_or_else(|| Fault::NotFound(format!("there is no connection {name}")))?;
        let setup = connection.sign_in.clone();
        let setup = setup.ok_or_else(|| Fault::InvalidRequest(format!("nobody signs in at {name}; it takes a key")))?;
        let Some(SealedSignIn { mut record, sealed }) = self.store.sealed_sign_in(api).await? else {
            return Ok(Held { connection, setup, record: SignInRecord::new(api.clone()), kept: Kept::default() });
        };
        let opened = self.vault.unseal_sign_in(api, record.version, &setup, &sealed);
        let opened = opened.ok().and_then(|bytes| Kept::read(&bytes).ok());
        let kept = opened.unwrap_or_else(|| {
            tracing::warn!(connection = %api, "the tokens of a sign-in do not open; its setup was changed");
            let why = "its settings were changed after the sign-in".to_owned();
            let state =
                if record.state == SignInState::SignedOut { SignInState::SignedOut } else { SignInState::Needed(why) };
            record = SignInRecord { version: record.version, state, ..SignInRecord::new(api.clone()) };
            Kept::default()
        });
        Ok(Held { connection, setup, record, kept })
    }

    /// Writes it, durable when this returns, and tells the gateway.
    pub(super) async fn save(&self, held: &mut Held, token: Token) -> Result<(), Fault> {
        let from = held.record.version;
        let version = from.checked_add(1).ok_or_else(|| Fault::TooLarge("too many versions".into()))?;
        let api = held.record.connection.clone();
        let kept = held.kept.write().map_err(|error| {
            tracing::error!(%error, "a sign-in cannot be written");
            Fault::Unavailable("the sign-in cannot be sealed".into())
        })?;
        let sealed = self.vault.seal_sign_in(&api, version, &held.setup, &kept).map_err(unsealable)?;
        let token = match token {
            Token::Keep => None,
            Token::Remove => Some(None),
            Token::Put(value) => Some(Some(self.seal_token(held, version, &value)?)),
        };
        let change = match &token {
            None => TokenChange::Keep,
            Some(None) => TokenChange::Remove,
            Some(Some(secret)) => TokenChange::Put(secret),
        };
        let next = SealedSignIn { record: SignInRecord { version, ..held.record.clone() }, sealed };
        self.forget(&api);
        if !self.store.put_sign_in(&next, from, change).await? {
            return Err(Fault::Unavailable(format!("the sign-in of {} has just changed; try again", api.name())));
        }
        held.record.version = version;
        self.tell(&api);
        Ok(())
    }

    fn seal_token(&self, held: &Held, version: u32, value: &SecretBytes) -> Result<SealedSecret, Fault> {
        let invalid = |error: String| Fault::InvalidRequest(error);
        let kind = if self.is_aws(&held.setup) { Kind::AwsSigv4 } else { Kind::Value };
        let uses = Uses { slots: kind.default_slots(), rules: held.connection.rules.clone(), kind, ..Uses::default() };
        let now = self.clock.now();
        let record = SecretRecord {
            name: SecretName::of_connection(&held.record.connection).map_err(|error| invalid(error.to_string()))?,
            hosts: held.setup.hosts.clone(),
            uses,
            version,
            created_at: held.record.signed_in_at.unwrap_or(now),
            updated_at: now,
        };
        record.uses.check(&record.hosts).map_err(invalid)?;
        let sealed = self.vault.seal(&record, value).map_err(unsealable)?;
        Ok(SealedSecret { record, sealed })
    }
}

fn unsealable(error: oauth3_vault::VaultError) -> Fault {
    tracing::error!(%error, "a token cannot be sealed");
    Fault::Unavailable("the token cannot be sealed".into())
}
