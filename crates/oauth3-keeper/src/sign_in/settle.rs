//! What a sign-in came to: tokens of the account that was expected, or of another one.

use super::kept::{Secret, Session, Waiting};
use super::net::{Trouble, reply};
use super::state::{Held, Token};
use super::{SignIns, event};
use crate::audit::ACTOR;
use oauth3_core::{
    Account, ApiId, AttemptEnd, AuditKind, FailedAttempt, Fault, SignInRecord, SignInSetup, SignInState, Timestamp,
};
use oauth3_oauth::{Client, Sensitive, TokenKind, TokenSet, aws, read_revocation, revoke};
use oauth3_vault::SecretBytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long another account waits for the owner's word.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(900);

/// Tokens that are about to be taken in.
pub(super) struct Fresh {
    pub(super) access_token: Secret,
    pub(super) refresh_token: Option<Secret>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) granted: Option<BTreeSet<String>>,
}

impl Fresh {
    /// Scopes are noted in the words in which they were asked for: some providers have others for the same.
    pub(super) fn of(tokens: TokenSet, client: &Client, setup: &SignInSetup) -> Self {
        let asked: Vec<String> = setup.scopes.iter().cloned().collect();
        let difference = tokens.scope_difference(client, &asked);
        let granted = tokens.granted.as_ref().map(|_| {
            let kept = asked.into_iter().filter(|scope| !difference.missing.contains(scope));
            kept.chain(difference.extra).collect()
        });
        Self {
            access_token: Secret(tokens.access_token),
            refresh_token: tokens.refresh_token.map(Secret),
            expires_at: tokens.expires_at,
            granted,
        }
    }
}

impl SignIns {
    /// Tokens came. The error is a sentence for the owner.
    pub(super) async fn complete(
        &self,
        api: &ApiId,
        client: &Client,
        tokens: TokenSet,
        nonce: Option<&str>,
    ) -> Result<(), String> {
        let sentence = |fault: Fault| fault.to_string();
        let held = self.load(api).await.map_err(sentence)?;
        let account = self.account(&held, client, &tokens, nonce).await;
        let _turn = self.turn(api).await.map_err(sentence)?;
        let mut held = self.load(api).await.map_err(sentence)?;
        let fresh = Fresh::of(tokens, client, &held.setup);
        let account = match account {
            Ok(account) if held.record.attempt.is_some() => account,
            // Nobody waits for it any more, or nobody knows whose it is.
            other => {
                self.give_back(&held, &fresh.access_token, fresh.refresh_token.as_ref()).await;
                return other.map(drop).map_err(|trouble| trouble.to_string());
            }
        };
        if held.record.account.is_some() && account.is_none() {
            self.give_back(&held, &fresh.access_token, fresh.refresh_token.as_ref()).await;
            return Err("the provider did not say whose account this is, as it did before".to_owned());
        }
        let other = match (&held.record.account, &account) {
            (Some(before), Some(now)) if before.subject != now.subject => Some(now.clone()),
            _ => None,
        };
        match other {
            Some(other) => self.hold_back(&mut held, other, fresh).await.map_err(sentence),
            None => self.adopt(&mut held, client, account, fresh).await.map_err(sentence),
        }
    }

    /// Another account than before: it waits for the owner's word.
    async fn hold_back(&self, held: &mut Held, other: Account, fresh: Fresh) -> Result<(), Fault> {
        let api = held.record.connection.clone();
        let until = self.clock.now().plus(CONFIRM_PATIENCE);
        let change = event(&api, AuditKind::SignIn, ACTOR, "other_account").with("account", other.shown());
        self.audit.append(&[change]).await?;
        if let Some(attempt) = &mut held.record.attempt {
            attempt.other_account = Some(other.clone());
            attempt.expires_at = until;
        }
        held.kept.device = None;
        held.kept.waiting = Some(Waiting {
            account: other,
            access_token: fresh.access_token,
            refresh_token: fresh.refresh_token,
            expires_at: fresh.expires_at,
            granted: fresh.granted.unwrap_or_default(),
        });
        self.save(held, Token::Keep).await?;
        self.await_word(&api, until);
        Ok(())
    }

    /// Refuses another account when the owner says nothing in time.
    pub(super) fn await_word(&self, api: &ApiId, until: Timestamp) {
        let Some(me) = self.me.upgrade() else { return };
        let api = api.clone();
        self.spawn(async move {
            tokio::time::sleep(until.since(me.clock.now())).await;
            let due = |record: SignInRecord| record.attempt.is_some_and(|attempt| attempt.expires_at == until);
            let is_due = me.store.sealed_sign_in(&api).await.ok().flatten().is_some_and(|found| due(found.record));
            if is_due && let Err(fault) = me.refuse_account(&api, ACTOR).await {
                tracing::warn!(connection = %api, %fault, "another account was not refused in time");
            }
        });
    }

    /// The owner means the other account.
    pub(super) async fn keep_account(&self, api: &ApiId, by: &str) -> Result<SignInRecord, Fault> {
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        let Some(waiting) = held.kept.waiting.take() else { return Err(no_other(api)) };
        let change = event(api, AuditKind::SignIn, by, "account_kept").with("account", waiting.account.shown());
        self.audit.append(&[change]).await?;
        let Waiting { account, access_token, refresh_token, expires_at, granted } = waiting;
        let granted = (!granted.is_empty()).then_some(granted);
        let fresh = Fresh { access_token, refresh_token, expires_at, granted };
        let client = self.client(&held).await?;
        self.adopt(&mut held, &client, Some(account), fresh).await?;
        Ok(held.record)
    }

    /// The owner does not.
    pub(super) async fn refuse_account(&self, api: &ApiId, by: &str) -> Result<SignInRecord, Fault> {
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        let Some(waiting) = held.kept.waiting.take() else { return Err(no_other(api)) };
        let change = event(api, AuditKind::SignIn, by, "account_refused").with("account", waiting.account.shown());
        self.audit.append(&[change]).await?;
        held.record.attempt = None;
        let sentence = "another account signed in, and was not taken".to_owned();
        held.record.failure = Some(FailedAttempt { at: self.clock.now(), end: AttemptEnd::Denied, sentence });
        self.save(&mut held, Token::Keep).await?;
        self.give_back(&held, &waiting.access_token, waiting.refresh_token.as_ref()).await;
        Ok(held.record)
    }

    /// Takes the tokens of a sign-in in.
    async fn adopt(
        &self,
        held: &mut Held,
        client: &Client,
        account: Option<Account>,
        fresh: Fresh,
    ) -> Result<(), Fault> {
        let api = held.record.connection.clone();
        let now = self.clock.now();
        let shown = account.as_ref().map(Account::shown);
        let change = event(&api, AuditKind::SignIn, ACTOR, "signed_in").with("account", shown);
        self.audit.append(&[change.with("granted", fresh.granted.clone().map(Vec::from_iter))]).await?;
        held.record.account = account;
        held.record.signed_in_at = Some(now);
        held.record.refreshed_at = None;
        held.record.granted = fresh.granted.clone().unwrap_or_default();
        held.record.failure = None;
        held.kept.device = None;
        held.kept.waiting = None;
        // What belonged to the sign-in before is not kept for this one.
        held.kept.refresh_token = None;
        self.forget_troubles(&api);
        self.end_derived(&api).await?;
        let value = self.keep(held, fresh).await?;
        // At AWS it is over when the role's credentials are there, not before.
        held.record.attempt = None;
        self.put_value(held, client, value).await?;
        self.stop(&api);
        self.derive_all(&api);
        Ok(())
    }

    /// Stores tokens, new or refreshed; durable before anybody uses them.
    pub(super) async fn put_tokens(&self, held: &mut Held, client: &Client, fresh: Fresh) -> Result<(), Fault> {
        let value = self.keep(held, fresh).await?;
        self.put_value(held, client, value).await
    }

    /// Takes tokens in, and gives what is to be stored as the secret. AWS: nothing yet; the session is stored.
    async fn keep(&self, held: &mut Held, fresh: Fresh) -> Result<Option<SecretBytes>, Fault> {
        let Fresh { access_token, refresh_token, expires_at, granted } = fresh;
        if refresh_token.is_some() {
            held.kept.refresh_token = refresh_token;
        }
        held.record.refreshable = held.kept.refresh_token.is_some();
        held.record.refreshing_since = None;
        held.record.state = SignInState::SignedIn;
        if let Some(granted) = granted {
            held.record.granted = granted;
        }
        if !self.is_aws(&held.setup) {
            held.record.expires_at = expires_at;
            return Ok(Some(SecretBytes::new(access_token.0.expose().as_bytes().to_vec())));
        }
        // The session first: it must not be lost when the role's credentials cannot be had.
        held.kept.session = Some(Session { token: access_token, expires_at });
        held.record.expires_at = Some(self.clock.now());
        self.save(held, Token::Remove).await?;
        Ok(None)
    }

    async fn put_value(&self, held: &mut Held, client: &Client, value: Option<SecretBytes>) -> Result<(), Fault> {
        match value {
            Some(value) => self.save(held, Token::Put(value)).await,
            None => self.put_role(held, client).await,
        }
    }

    /// AWS: credentials of the role, from the session.
    pub(super) async fn put_role(&self, held: &mut Held, client: &Client) -> Result<(), Fault> {
        let (account, role) = role_of(&held.setup)?;
        let nobody = || Fault::DeniedByPolicy("nobody is signed in at AWS".into());
        let session = held.kept.session.as_ref().ok_or_else(nobody)?;
        let exchange = aws::role_credentials(client, &session.token.0, account, role).map_err(Trouble::Failed)?;
        let got = self.send(&held.setup, exchange).await?;
        let role = aws::read_role_credentials(client, &reply(&got)).map_err(Trouble::Failed)?;
        let parts = [&role.access_key_id, &role.secret_access_key, &role.session_token].map(Sensitive::expose);
        let mut value = zeroize::Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum()));
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                value.push(b':');
            }
            value.extend_from_slice(part.as_bytes());
        }
        held.record.expires_at = Some(role.expires_at);
        self.save(held, Token::Put(SecretBytes::new(value))).await
    }

    /// Revokes tokens; whether the provider took all that it can be told of, and there was something to tell.
    pub(super) async fn give_back(&self, held: &Held, access: &Secret, refresh: Option<&Secret>) -> bool {
        let Ok(client) = self.client(held).await else { return false };
        // The refresh token first: with it access tokens usually go too.
        let refresh = refresh.map(|token| (TokenKind::Refresh, token));
        let (mut all, mut told) = (true, false);
        for (kind, token) in refresh.into_iter().chain([(TokenKind::Access, access)]) {
            let taken = match revoke(&client, kind, &token.0) {
                Ok(Some(exchange)) => {
                    told = true;
                    match self.send(&held.setup, exchange).await {
                        Ok(got) => read_revocation(&client, &reply(&got)).map_err(Trouble::Failed),
                        Err(trouble) => Err(trouble),
                    }
                }
                Ok(None) => Ok(()),
                Err(failure) => Err(Trouble::Failed(failure)),
            };
            if let Err(trouble) = taken {
                tracing::warn!(connection = %held.record.connection, %trouble, "a token was not revoked");
                all = false;
            }
        }
        all && told
    }
}

/// AWS: the account and the role in it whose credentials are used.
pub(super) fn role_of(setup: &SignInSetup) -> Result<(&str, &str), Fault> {
    let missing = |name: &str| Fault::InvalidRequest(format!("the connection names no {name}; add it anew with one"));
    let parameter = |name: &str| setup.parameters.get(name).map(String::as_str).ok_or_else(|| missing(name));
    Ok((parameter("account_id")?, parameter("role_name")?))
}

fn no_other(api: &ApiId) -> Fault {
    Fault::AlreadyDecided(format!("no other account waits at {}", api.name()))
}
