//! Signing out: revoked at the provider, then destroyed here.

use super::SignIns;
use super::kept::{Kept, Secret};
use super::state::Token;
use oauth3_core::{ApiId, AttemptEnd, AuditKind, FailedAttempt, Fault, SecretName, SignInRecord, SignInState};
use oauth3_oauth::Sensitive;

impl SignIns {
    /// Signs out. The tokens are destroyed whatever the provider says; the record tells when it did not hear of it.
    pub(super) async fn sign_out(&self, api: &ApiId, by: &str) -> Result<SignInRecord, Fault> {
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        self.stop(api);
        if held.record.state == SignInState::SignedOut && held.record.attempt.is_none() {
            return Ok(held.record);
        }
        self.record(api, AuditKind::SignedOut, by, "signed_out").await?;
        if let Some(from) = held.setup.from.clone() {
            self.sign_out_derived(&mut held, &from).await?;
            return Ok(held.record);
        }
        for token in self.end_derived(api).await? {
            self.give_back(&held, &token, None).await;
        }
        let access = match &held.kept.session {
            Some(session) if self.is_aws(&held.setup) => Some(Secret::copied(&session.token.0)),
            _ => self.access_token(api).await,
        };
        let heard = match (&access, &held.kept.refresh_token) {
            (Some(access), refresh) => self.give_back(&held, access, refresh.as_ref()).await,
            (None, Some(refresh)) => self.give_back(&held, refresh, Some(refresh)).await,
            (None, None) => true,
        };
        held.kept = Kept::without_tokens(std::mem::take(&mut held.kept));
        let version = held.record.version;
        held.record = SignInRecord { version, ..SignInRecord::new(api.clone()) };
        if !heard {
            let sentence = "the tokens are destroyed here, but the provider was not told or did not take them back; \
                            remove the access in the settings of your account there";
            held.record.failure =
                Some(FailedAttempt { at: self.clock.now(), end: AttemptEnd::Failed, sentence: sentence.to_owned() });
        }
        self.save(&mut held, Token::Remove).await?;
        Ok(held.record)
    }

    /// The access token as it is stored.
    pub(super) async fn access_token(&self, api: &ApiId) -> Option<Secret> {
        let name = SecretName::of_connection(api).ok()?;
        let sealed = self.store.sealed_secret(&name).await.ok().flatten()?;
        let value = self.vault.unseal(&sealed).ok()?;
        value.with(|bytes| std::str::from_utf8(bytes).ok().map(Sensitive::copied)).map(Secret)
    }
}
