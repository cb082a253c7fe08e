//! An access token that is good now. Read [`SignIns::look`] from top to bottom.
//!
//! A refresh is written down before the refresh token leaves, and its reply is stored before anybody uses it. So after
//! a crash in between nobody knows what became of the token, and where a provider takes each one once it is never sent
//! again: the access token is used while it lasts, then the owner signs in anew. A keeper that lives on and got no
//! reply, or was told to come back later, tries again after a pause.

use super::net::{Trouble, reply};
use super::settle::Fresh;
use super::state::{Held, Token};
use super::{Ready, SignIns, event};
use crate::audit::ACTOR;
use oauth3_core::{ApiId, AuditKind, Fault, SecretName, SignInState, Timestamp};
use oauth3_oauth::{Client, Failure, Refreshed, TokenSet, read_refresh, refresh, subject_at_refresh};
use oauth3_vault::SecretBytes;
use std::time::Duration;

/// A token that ends sooner is refreshed before it is used; at most a quarter of its life.
const SPARE: Duration = Duration::from_secs(60);
/// How often a token is refreshed at most because an API did not take it.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a refresh that did not work this time; doubled each time, up to the longest, unless the provider asks
/// for more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a token whose end is not known needs no second look.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);

/// What came of a refresh token that was sent.
pub(super) enum Spent {
    /// Tokens, to be stored before anything else.
    Got(TokenSet),
    /// A no.
    Refused(Failure),
    /// Nothing; it may be tried again.
    Later(Trouble),
}

impl SignIns {
    /// Sees to it that the access token of a connection is good now; gives its version.
    pub(crate) async fn fresh(&self, name: &SecretName) -> Result<u32, Fault> {
        let api = name.connection().ok_or_else(|| Fault::NotFound(format!("{name} is no token")))?;
        let now = self.clock.now();
        let known = self.lock(&self.ready).get(&api).filter(|ready| now < ready.until).map(|ready| ready.version);
        if let Some(version) = known {
            return Ok(version);
        }
        self.to_the_end(async move |me| {
            let _turn = me.turn(&api).await?;
            let mut held = me.load(&api).await?;
            me.look(&mut held, false).await?;
            me.note_ready(&held).await
        })
        .await
    }

    /// An API did not take the token of this version: gives the version of a newer one, if there is one or one can be
    /// had.
    pub(crate) async fn renew(&self, name: &SecretName, refused: u32) -> Result<Option<u32>, Fault> {
        let Some(api) = name.connection() else { return Ok(None) };
        let name = name.clone();
        self.to_the_end(async move |me| {
            let _turn = me.turn(&api).await?;
            let mut held = me.load(&api).await?;
            if me.token_version(&name).await? == Some(refused) {
                let now = me.clock.now();
                let before = me.lock(&me.refused).insert(api.clone(), now);
                let just_now = before.is_some_and(|at| now.since(at) < REFUSED_AGAIN);
                if just_now || !(held.record.refreshable || me.is_aws(&held.setup)) {
                    return Ok(None);
                }
                me.look(&mut held, true).await?;
            }
            let version = me.note_ready(&held).await?;
            Ok((version != refused).then_some(version))
        })
        .await
    }

    /// The token and its version, when it is not the one that was `seen` any more.
    pub(crate) async fn newer(
        &self,
        name: &SecretName,
        seen: u32,
        refused: bool,
    ) -> Result<Option<(u32, SecretBytes)>, Fault> {
        let version = if refused { self.renew(name, seen).await? } else { Some(self.fresh(name).await?) };
        if version.is_none_or(|version| version == seen) {
            return Ok(None);
        }
        let Some(sealed) = self.store.sealed_secret(name).await? else { return Ok(None) };
        let value = self.vault.unseal(&sealed);
        let value = value.map_err(|_| Fault::Unavailable(format!("{name} cannot be unsealed; sign in again")))?;
        Ok(Some((sealed.record.version, value)))
    }

    pub(super) async fn look(&self, held: &mut Held, refused: bool) -> Result<(), Fault> {
        if let Some(from) = held.setup.from.clone() {
            return self.look_derived(held, &from, refused).await;
        }
        let name = held.record.connection.name().to_owned();
        let sign_in = |why: &str| Fault::DeniedByPolicy(format!("{name}: {why}; sign in with: oauth3 login {name}"));
        match &held.record.state {
            SignInState::SignedIn => {}
            SignInState::SignedOut => return Err(sign_in("nobody is signed in")),
            SignInState::Needed(why) => {
                let fault = sign_in(why);
                // One whose setup was changed is still among the secrets.
                if self.token_version(&token_name(held)?).await?.is_some() {
                    self.save(held, Token::Remove).await?;
                }
                return Err(fault);
            }
        }
        let now = self.clock.now();
        let ends = held.record.expires_at;
        let lasts = |for_: Duration| ends.is_none_or(|at| at > now.plus(for_));
        if !refused && lasts(self.spare(held)) {
            return Ok(());
        }
        if let Some(since) = held.record.refreshing_since {
            let (_, resolved) = self.identity(&held.setup)?;
            if !resolved.server.rotation.may_retry() {
                if !refused && lasts(Duration::ZERO) {
                    return Ok(());
                }
                tracing::warn!(connection = %name, since = since.unix_seconds(), "a refresh was interrupted");
                let why = "a refresh was interrupted, and its refresh token cannot be used twice";
                return Err(self.needed(held, why).await?);
            }
        }
        if let Some(seconds) = self.rests(&held.record.connection) {
            if !refused && lasts(Duration::ZERO) {
                return Ok(());
            }
            let text = format!("the access to {name} could not be renewed; it is tried again in {seconds} s");
            return Err(Fault::Unavailable(text));
        }
        let client = self.client(held).await?;
        if self.is_aws(&held.setup) {
            let session = held.kept.session.as_ref();
            let lasts = session.is_some_and(|s| s.expires_at.is_none_or(|at| at > now.plus(SPARE)));
            if lasts && self.put_role(held, &client).await.is_ok() {
                return Ok(());
            }
        }
        if held.kept.refresh_token.is_none() {
            let why = "the access has ended, and the provider gave nothing to renew it with";
            return Err(self.needed(held, why).await?);
        }
        match self.refresh(held, &client).await? {
            None => Ok(()),
            Some(_) if !refused && lasts(Duration::ZERO) => Ok(()),
            Some(trouble) => Err(Fault::Unavailable(format!("the access to {name} cannot be renewed now: {trouble}"))),
        }
    }

    /// Refreshes. Gives what went wrong when it may be tried later.
    async fn refresh(&self, held: &mut Held, client: &Client) -> Result<Option<Trouble>, Fault> {
        match self.spend(held, client, &[]).await? {
            Spent::Got(tokens) => {
                held.record.refreshed_at = Some(self.clock.now());
                let fresh = Fresh::of(tokens, client, &held.setup);
                self.put_tokens(held, client, fresh).await?;
                self.note_stored(&held.record.connection).await;
                Ok(None)
            }
            Spent::Refused(failure) => Err(self.needed(held, &failure.to_string()).await?),
            Spent::Later(trouble) => Ok(Some(trouble)),
        }
    }

    /// Sends the refresh token, once, for a token with these scopes; none: with all that there are. That it is under
    /// way is stored; that it is over is for the caller to store, with what came.
    pub(super) async fn spend(&self, held: &mut Held, client: &Client, scopes: &[String]) -> Result<Spent, Fault> {
        let none = || Fault::Unavailable("there is no refresh token".to_owned());
        let token = held.kept.refresh_token.as_ref().ok_or_else(none)?;
        let exchange = refresh(client, &token.0, scopes).map_err(Trouble::Failed)?;
        let api = held.record.connection.clone();
        self.record(&api, AuditKind::TokenRefresh, ACTOR, "sent").await?;
        held.record.refreshing_since = Some(self.clock.now());
        self.save(held, Token::Keep).await?;

        let (trouble, asked) = match self.send(&held.setup, exchange).await {
            Ok(got) => match read_refresh(client, &reply(&got), self.clock.now()) {
                Refreshed::Done(tokens) => {
                    self.lock(&self.resting).remove(&api);
                    if is_of_another(held, client, &tokens) {
                        let fresh = Fresh::of(tokens, client, &held.setup);
                        let ended = self.needed(held, "the provider gave the access of another account").await;
                        self.give_back(held, &fresh.access_token, fresh.refresh_token.as_ref()).await;
                        return Err(ended?);
                    }
                    return Ok(Spent::Got(tokens));
                }
                Refreshed::Ended(failure) => return Ok(Spent::Refused(failure)),
                Refreshed::Later { why, asked } => (Trouble::Failed(why), asked),
            },
            Err(trouble) => (trouble, None),
        };
        // This keeper knows that no reply came that would have to be stored; the token is tried again later.
        held.record.refreshing_since = None;
        self.save(held, Token::Keep).await?;
        self.rest(&api, asked);
        Ok(Spent::Later(trouble))
    }

    /// What a refresh gave is stored.
    pub(super) async fn note_stored(&self, api: &ApiId) {
        if let Err(fault) = self.record(api, AuditKind::TokenRefresh, ACTOR, "stored").await {
            tracing::error!(%fault, "a refresh that was stored is not in the audit");
        }
    }

    /// Lets a connection alone for a while, longer each time; `asked` is how long the provider wants.
    pub(super) fn rest(&self, api: &ApiId, asked: Option<Duration>) {
        let mut resting = self.lock(&self.resting);
        let failures = resting.get(api).map_or(0, |(failures, _)| *failures);
        let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        let until = self.clock.now().plus(pause.max(asked.unwrap_or_default()));
        resting.insert(api.clone(), (failures.saturating_add(1), until));
    }

    /// For how many seconds more a connection is let alone.
    pub(super) fn rests(&self, api: &ApiId) -> Option<u64> {
        let now = self.clock.now();
        let until = self.lock(&self.resting).get(api).map(|(_, until)| *until);
        until.filter(|until| now < *until).map(|until| until.since(now).as_secs().max(1))
    }

    /// What did not work with the tokens before says nothing of those that come.
    pub(super) fn forget_troubles(&self, api: &ApiId) {
        self.lock(&self.resting).remove(api);
        self.lock(&self.refused).remove(api);
    }

    /// The tokens are of no use any more: the owner must sign in again, and is told why. Gives what to tell others.
    pub(super) async fn needed(&self, held: &mut Held, why: &str) -> Result<Fault, Fault> {
        let api = held.record.connection.clone();
        let name = api.name();
        let change = event(&api, AuditKind::SignIn, ACTOR, "needed").with("reason", why);
        self.audit.append(&[change]).await?;
        held.kept.refresh_token = None;
        held.kept.session = None;
        held.record.state = SignInState::Needed(why.to_owned());
        held.record.refreshing_since = None;
        held.record.refreshable = false;
        held.record.expires_at = None;
        self.save(held, Token::Remove).await?;
        self.end_derived(&api).await?;
        Ok(Fault::DeniedByPolicy(format!("{name}: {why}; sign in with: oauth3 login {name}")))
    }

    /// How long before its end a token is refreshed.
    pub(super) fn spare(&self, held: &Held) -> Duration {
        let record = &held.record;
        let obtained = record.refreshed_at.max(record.signed_in_at);
        let life = record.expires_at.zip(obtained).map(|(end, from)| end.since(from));
        life.map_or(SPARE, |life| SPARE.min(life / 4))
    }

    async fn token_version(&self, name: &SecretName) -> Result<Option<u32>, Fault> {
        Ok(self.store.sealed_secret(name).await?.map(|sealed| sealed.record.version))
    }

    /// Remembers that the token needs no second look for a while.
    async fn note_ready(&self, held: &Held) -> Result<u32, Fault> {
        let api = &held.record.connection;
        let name = token_name(held)?;
        let missing = || Fault::DeniedByPolicy(format!("there is no token of {}; sign in again", api.name()));
        let version = self.token_version(&name).await?.ok_or_else(missing)?;
        let now = self.clock.now();
        let until = match held.record.expires_at {
            Some(end) => Timestamp::from_millis(end.millis().saturating_sub(millis(self.spare(held)))),
            None => now.plus(UNKNOWN_LIFE),
        };
        if let Err(fault) = self.store.set_sign_in_used(api, now).await {
            tracing::warn!(%fault, "the use of a token is not noted");
        }
        let until = until.min(now.plus(UNKNOWN_LIFE));
        let parent = held.setup.from.as_ref().map(|from| from.parent.clone());
        self.lock(&self.ready).insert(api.clone(), Ready { version, until, parent });
        Ok(version)
    }
}

/// Whether tokens are somebody else's than those before.
fn is_of_another(held: &Held, client: &Client, tokens: &TokenSet) -> bool {
    let now = tokens.id_token.as_ref().and_then(|token| subject_at_refresh(client, token));
    held.record.account.as_ref().zip(now).is_some_and(|(before, now)| before.subject != now)
}

fn token_name(held: &Held) -> Result<SecretName, Fault> {
    let name = SecretName::of_connection(&held.record.connection);
    name.map_err(|error| Fault::InvalidRequest(error.to_string()))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
