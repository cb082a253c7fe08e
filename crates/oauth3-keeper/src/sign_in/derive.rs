//! Tokens that are got from another connection's sign-in, its parent's. Read [`SignIns::look_derived`] from top to
//! bottom.
//!
//! A derived token belongs to one sign-in of its parent: it is used while that one stands, and goes with it. Both take
//! the same turn, for they share a refresh token: what comes back for it is the parent's, and stored before the derived
//! token is.

use super::fresh::Spent;
use super::kept::Secret;
use super::net::{Trouble, reply};
use super::settle::Fresh;
use super::state::{Held, Token};
use super::{SignIns, event};
use crate::audit::ACTOR;
use oauth3_core::{ApiId, AttemptEnd, AuditKind, Derived, DerivedWay, FailedAttempt, Fault, SignInRecord, SignInState};
use oauth3_oauth::{Client, Failure, Sensitive, TokenExchange, TokenSet, TokenType, read_token_exchange};
use oauth3_vault::SecretBytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a token that could not be got is tried again by itself: as long as requests usually wait.
const TRIED_FOR: Duration = Duration::from_secs(900);
/// How names of agents begin where it is written who asked.
const AGENT: &str = "agent:";

/// What is asked for in an exchange.
struct Ask<'a> {
    audience: Option<&'a str>,
    resource: Option<&'a str>,
    scopes: &'a [String],
    /// The Token Vault's.
    connection: Option<&'a str>,
}

impl<'a> Ask<'a> {
    fn of(&self, subject: (&'a Sensitive, TokenType)) -> TokenExchange<'a> {
        let Self { audience, resource, scopes, connection } = *self;
        TokenExchange {
            subject,
            actor: None,
            requested: Some(TokenType::Access),
            audience,
            resource,
            scopes,
            connection,
        }
    }
}

/// Why no token was got.
enum Refusal {
    /// It is tried again.
    Now(String),
    /// It does not work until something is changed.
    Lasting(String),
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed(failure) if !failure.is_transient() => Self::Lasting(failure.to_string()),
            other => Self::Now(other.to_string()),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure).into()
    }
}

impl SignIns {
    /// Begins: the token is got now, or else the sign-in of the parent begins.
    pub(super) async fn begin_derived(&self, mut held: Held, from: &Derived, by: &str) -> Result<SignInRecord, Fault> {
        let mut parent = self.load(&from.parent).await?;
        if parent.record.state != SignInState::SignedIn {
            self.begin_at(&mut parent, by).await?;
            return Ok(parent.record);
        }
        // With its parent's sign-in it is signed in by itself, so the owner took it away.
        let taken_away = held.record.state == SignInState::SignedOut && held.record.version > 0;
        if taken_away && by.starts_with(AGENT) {
            let name = held.record.connection.name();
            let text = format!("the owner signed out of {name}; he signs in again with: oauth3 login {name}");
            return Err(Fault::DeniedByPolicy(text));
        }
        if !by.starts_with(AGENT) {
            // Whoever says it himself has perhaps mended what was wrong.
            self.lock(&self.resting).remove(&held.record.connection);
        }
        let looked = self.look_derived(&mut held, from, true).await;
        // The owner sees what came of it, and an agent's request waits.
        if by.starts_with(AGENT) && matches!(looked, Err(Fault::Unavailable(_))) {
            self.try_again(&held.record.connection, &from.parent);
        }
        looked.map(|()| held.record)
    }

    /// Sees to it that a derived token is good now.
    pub(super) async fn look_derived(&self, held: &mut Held, from: &Derived, refused: bool) -> Result<(), Fault> {
        let api = held.record.connection.clone();
        let name = api.name();
        let mut parent = match self.parent(held, from).await? {
            Ok(parent) => parent,
            Err(why) => {
                self.end_token(held, None).await?;
                return Err(Fault::DeniedByPolicy(format!("{name}: {why}")));
            }
        };
        let since = parent.record.signed_in_at;
        let of_this_sign_in = held.record.state == SignInState::SignedIn && held.record.signed_in_at == since;
        if !of_this_sign_in && held.record.state == SignInState::SignedIn {
            self.end_token(held, None).await?;
        }
        let now = self.clock.now();
        let ends = held.record.expires_at;
        let lasts = |for_: Duration| of_this_sign_in && ends.is_none_or(|at| at > now.plus(for_));
        if !refused && lasts(self.spare(held)) {
            return Ok(());
        }
        if let Some(seconds) = self.rests(&api) {
            return match &held.record.state {
                _ if !refused && lasts(Duration::ZERO) => Ok(()),
                SignInState::Needed(why) => Err(Fault::DeniedByPolicy(format!("{name}: {why}"))),
                _ => Err(Fault::Unavailable(format!(
                    "a token of {name} could not be got; it is tried again in {seconds} s"
                ))),
            };
        }
        let client = self.client(&parent).await?;
        let got = match self.obtain(held, &mut parent, from, &client).await? {
            Ok(tokens) => allowed(held, &parent, from, &client, tokens),
            Err(refusal) => Err(refusal),
        };
        match got {
            Ok(tokens) => {
                self.lock(&self.resting).remove(&api);
                self.put_derived(held, &parent, Fresh::of(tokens, &client, &held.setup)).await
            }
            Err(Refusal::Now(why)) => {
                self.rest(&api, None);
                if !refused && lasts(Duration::ZERO) {
                    return Ok(());
                }
                Err(Fault::Unavailable(format!("a token of {name} cannot be got now: {why}")))
            }
            Err(Refusal::Lasting(why)) => {
                self.rest(&api, None);
                let needed = SignInState::Needed(why.clone());
                if held.record.state != needed {
                    let change = event(&api, AuditKind::SignIn, ACTOR, "needed").with("reason", why.as_str());
                    self.audit.append(&[change]).await?;
                    let version = held.record.version;
                    held.record = SignInRecord { version, state: needed, ..SignInRecord::new(api.clone()) };
                    self.save(held, Token::Remove).await?;
                }
                Err(Fault::DeniedByPolicy(format!("{name}: {why}")))
            }
        }
    }

    /// The sign-in that it is got from, or why nothing is got from that.
    async fn parent(&self, held: &Held, from: &Derived) -> Result<Result<Held, String>, Fault> {
        let name = from.parent.name();
        let parent = match self.load(&from.parent).await {
            Ok(parent) => parent,
            Err(Fault::NotFound(_) | Fault::InvalidRequest(_)) => {
                return Ok(Err(format!("its token came from the sign-in to {name}, which is gone")));
            }
            Err(fault) => return Err(fault),
        };
        if let Err(why) = self.identities.check_derived(&held.setup, from, &parent.setup) {
            return Ok(Err(why));
        }
        Ok(match &parent.record.state {
            SignInState::SignedIn => Ok(parent),
            SignInState::SignedOut => Err(format!("nobody is signed in to {name}; sign in with: oauth3 login {name}")),
            SignInState::Needed(why) => Err(format!("{name}: {why}; sign in with: oauth3 login {name}")),
        })
    }

    async fn obtain(
        &self,
        held: &Held,
        parent: &mut Held,
        from: &Derived,
        client: &Client,
    ) -> Result<Result<TokenSet, Refusal>, Fault> {
        let scopes: Vec<String> = held.setup.scopes.iter().cloned().collect();
        if !matches!(from.way, DerivedWay::Vault { .. }) {
            let more = client.server.beyond(granted(parent), &held.setup.scopes);
            if !more.is_empty() {
                let (name, more) = (from.parent.name(), more.join(", "));
                return Ok(Err(Refusal::Lasting(format!("the sign-in to {name} was not granted {more}"))));
            }
        }
        match &from.way {
            DerivedWay::FewerScopes => self.with_fewer_scopes(parent, client, &scopes).await,
            DerivedWay::Exchange { audience, resource } => {
                let (audience, resource) = (audience.as_deref(), resource.as_deref());
                let ask = Ask { audience, resource, scopes: &scopes, connection: None };
                self.exchanged(parent, client, &ask).await
            }
            DerivedWay::Vault { connection } => {
                let ask = Ask { audience: None, resource: None, scopes: &[], connection: Some(connection) };
                self.exchanged(parent, client, &ask).await
            }
        }
    }

    /// A refresh that asks for fewer scopes. What it gives besides is the parent's, whose own scopes stay.
    async fn with_fewer_scopes(
        &self,
        parent: &mut Held,
        client: &Client,
        scopes: &[String],
    ) -> Result<Result<TokenSet, Refusal>, Fault> {
        let name = parent.record.connection.name().to_owned();
        if parent.kept.refresh_token.is_none() {
            let text = format!("the provider gave {name} nothing to get another token with");
            return Ok(Err(Refusal::Lasting(text)));
        }
        if parent.record.refreshing_since.is_some() && !client.server.rotation.may_retry() {
            // The parent is used while its access token lasts; that this has ended is found here too.
            Box::pin(self.look(parent, false)).await?;
            let text = format!("a refresh of {name} was interrupted; sign in with: oauth3 login {name} --again");
            return Ok(Err(Refusal::Now(text)));
        }
        if let Some(seconds) = self.rests(&parent.record.connection) {
            return Ok(Err(Refusal::Now(format!("{name} is tried again in {seconds} s"))));
        }
        match self.spend(parent, client, scopes).await? {
            Spent::Got(mut tokens) => {
                if let Some(next) = tokens.refresh_token.take() {
                    parent.kept.refresh_token = Some(Secret(next));
                }
                parent.record.refreshing_since = None;
                self.save(parent, Token::Keep).await?;
                self.note_stored(&parent.record.connection).await;
                Ok(Ok(tokens))
            }
            Spent::Later(trouble) => Ok(Err(Refusal::Now(trouble.to_string()))),
            // What was wrong is what was asked for, and the refresh token is as good as before.
            Spent::Refused(failure) if of_the_request(&failure) => {
                parent.record.refreshing_since = None;
                self.save(parent, Token::Keep).await?;
                Ok(Err(failure.into()))
            }
            Spent::Refused(failure) => Err(self.needed(parent, &failure.to_string()).await?),
        }
    }

    /// An exchange (RFC 8693 §2.1) of the parent's access token; at the Token Vault of its refresh token, which stays
    /// what it is, when there is one that is known to be good. An access token that is refused is renewed once.
    async fn exchanged(
        &self,
        parent: &mut Held,
        client: &Client,
        ask: &Ask<'_>,
    ) -> Result<Result<TokenSet, Refusal>, Fault> {
        let mut renew = false;
        loop {
            Box::pin(self.look(parent, renew)).await?;
            let (subject, kind) = match &parent.kept.refresh_token {
                Some(token) if ask.connection.is_some() && parent.record.refreshing_since.is_none() => {
                    (Some(Secret::copied(&token.0)), TokenType::Refresh)
                }
                _ => (self.access_token(&parent.record.connection).await, TokenType::Access),
            };
            let gone = || Fault::Unavailable("the access token of a sign-in cannot be read".to_owned());
            let subject = subject.ok_or_else(gone)?;
            let exchange = match ask.of((&subject.0, kind)).request(client) {
                Ok(exchange) => exchange,
                Err(failure) => return Ok(Err(failure.into())),
            };
            let answer = self.send(&parent.setup, exchange).await;
            let read = answer.and_then(|got| Ok(read_token_exchange(client, &reply(&got), self.clock.now())?));
            match read {
                Ok(tokens) => return Ok(Ok(tokens)),
                Err(Trouble::Failed(failure))
                    if !renew && kind == TokenType::Access && parent.record.refreshable && of_the_subject(&failure) =>
                {
                    renew = true;
                }
                Err(trouble) => return Ok(Err(trouble.into())),
            }
        }
    }

    /// Ends what was got from a sign-in, before that one ends or becomes another. Gives the tokens that the provider can
    /// revoke.
    pub(super) async fn end_derived(&self, parent: &ApiId) -> Result<Vec<Secret>, Fault> {
        let mut tokens = Vec::new();
        for (child, from) in self.derived_from(parent).await? {
            self.stop(&child);
            self.forget_troubles(&child);
            let mut held = self.load(&child).await?;
            let token = self.access_token(&child).await;
            self.end_token(&mut held, None).await?;
            tokens.extend(token.filter(|_| is_revocable(&from)));
        }
        Ok(tokens)
    }

    /// Gets what is derived from a sign-in that has just begun, so that requests that wait for it go on.
    pub(super) fn derive_all(&self, parent: &ApiId) {
        let (Some(me), parent) = (self.me.upgrade(), parent.clone()) else { return };
        self.spawn(async move {
            let children = me.derived_from(&parent).await.unwrap_or_default();
            for (child, from) in children {
                if let Err(fault) = me.get_derived(&child).await {
                    tracing::warn!(connection = %child, %fault, "a derived token was not got");
                    if matches!(fault, Fault::Unavailable(_)) {
                        me.try_again(&child, &from.parent);
                    }
                }
            }
        });
    }

    /// Tries again to get a token that requests may wait for, after each pause, until it is there, is refused for good,
    /// or is not wanted any more.
    fn try_again(&self, child: &ApiId, parent: &ApiId) {
        let Some(me) = self.me.upgrade() else { return };
        if self.lock(&self.followed).contains_key(child) {
            return;
        }
        let (child, parent, mut stop) = (child.clone(), parent.clone(), self.follow(child));
        let until = self.clock.now().plus(TRIED_FOR);
        self.spawn(async move {
            while me.clock.now() < until {
                let pause = me.rests(&child).max(me.rests(&parent)).unwrap_or(1);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(pause)) => {}
                    stopped = stop.wait_for(|stopped| *stopped) => {
                        drop(stopped);
                        return;
                    }
                }
                match me.get_derived(&child).await {
                    Err(Fault::Unavailable(why)) => tracing::info!(connection = %child, why, "not got yet"),
                    _ => break,
                }
            }
            // What was begun in place of this meanwhile is not this one's to forget.
            let mut followed = me.lock(&me.followed);
            if !*stop.borrow() {
                followed.remove(&child);
            }
        });
    }

    async fn get_derived(&self, child: &ApiId) -> Result<(), Fault> {
        let child = child.clone();
        self.to_the_end(async move |me| {
            let _turn = me.turn(&child).await?;
            let mut held = me.load(&child).await?;
            match held.setup.from.clone() {
                Some(from) => me.look_derived(&mut held, &from, false).await,
                None => Ok(()),
            }
        })
        .await
    }

    async fn derived_from(&self, parent: &ApiId) -> Result<Vec<(ApiId, Derived)>, Fault> {
        let connections = self.store.connections().await?.into_iter();
        let derived = connections.filter_map(|connection| Some((connection.api, connection.sign_in?.from?)));
        Ok(derived.filter(|(_, from)| from.parent == *parent).collect())
    }

    /// Signs out of a derived connection alone: its token is revoked where that can be, and its parent's stay.
    pub(super) async fn sign_out_derived(&self, held: &mut Held, from: &Derived) -> Result<(), Fault> {
        let token = self.access_token(&held.record.connection).await;
        let heard = match (self.parent(held, from).await?, &token) {
            (Ok(parent), Some(token)) if is_revocable(from) => self.give_back(&parent, token, None).await,
            _ => false,
        };
        let name = from.parent.name();
        let sentence =
            format!("its token is destroyed here; at the provider it ends by itself, or when you sign out of {name}");
        let failure = FailedAttempt { at: self.clock.now(), end: AttemptEnd::Failed, sentence };
        self.end_token(held, (!heard).then_some(failure)).await
    }

    async fn put_derived(&self, held: &mut Held, parent: &Held, fresh: Fresh) -> Result<(), Fault> {
        let api = held.record.connection.clone();
        let change = event(&api, AuditKind::TokenRefresh, ACTOR, "derived");
        let change = change.with("from", parent.record.connection.name());
        self.audit.append(&[change.with("granted", fresh.granted.clone().map(Vec::from_iter))]).await?;
        let version = held.record.version;
        held.record = SignInRecord {
            version,
            state: SignInState::SignedIn,
            account: parent.record.account.clone(),
            granted: fresh.granted.unwrap_or_default(),
            expires_at: fresh.expires_at,
            refreshable: true,
            signed_in_at: parent.record.signed_in_at,
            refreshed_at: Some(self.clock.now()),
            used_at: held.record.used_at,
            ..SignInRecord::new(api)
        };
        let value = SecretBytes::new(fresh.access_token.0.expose().as_bytes().to_vec());
        self.save(held, Token::Put(value)).await
    }

    /// A derived token is of no use any more; `failure` is what is left to be said.
    async fn end_token(&self, held: &mut Held, failure: Option<FailedAttempt>) -> Result<(), Fault> {
        if held.record.state == SignInState::SignedOut {
            return Ok(());
        }
        let api = held.record.connection.clone();
        self.record(&api, AuditKind::SignedOut, ACTOR, "derived_ended").await?;
        let version = held.record.version;
        held.record = SignInRecord { version, failure, ..SignInRecord::new(api) };
        self.save(held, Token::Remove).await
    }
}

/// Whether the provider of the parent can revoke it: what Auth0 gave of another provider's is not Auth0's.
const fn is_revocable(from: &Derived) -> bool {
    !matches!(from.way, DerivedWay::Vault { .. })
}

/// What a sign-in was granted.
fn granted(held: &Held) -> &BTreeSet<String> {
    if held.record.granted.is_empty() { &held.setup.scopes } else { &held.record.granted }
}

/// The tokens, when they have no more than was asked for, and not more than the parent.
fn allowed(held: &Held, parent: &Held, from: &Derived, client: &Client, tokens: TokenSet) -> Result<TokenSet, Refusal> {
    let vault = matches!(from.way, DerivedWay::Vault { .. });
    let asked = &held.setup.scopes;
    // Whoever names none of a linked account's takes them as they are linked.
    if vault && asked.is_empty() {
        return Ok(tokens);
    }
    let mut allowed = if asked.is_empty() { granted(parent).clone() } else { asked.clone() };
    if !vault {
        // Some providers give these along with any other, and the parent has them anyway.
        let along = client.server.unsaid_scopes.iter().filter(|scope| parent.setup.scopes.contains(*scope));
        allowed.extend(along.cloned());
    }
    let got: BTreeSet<String> = tokens.granted.iter().flatten().cloned().collect();
    match client.server.beyond(&allowed, &got).as_slice() {
        [] => Ok(tokens),
        more => {
            let more = more.join(", ");
            Err(Refusal::Lasting(format!("the provider gave more than was asked for ({more}), which is not used")))
        }
    }
}

/// Whether it was refused for what was asked for, so that the refresh token was not used.
fn of_the_request(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(code) if !of_the_grant(code.as_str()))
}

/// Whether the token that was to be exchanged was refused (RFC 8693 §2.2.2).
fn of_the_subject(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(code) if of_the_grant(code.as_str()) || code.as_str() == "invalid_request")
}

fn of_the_grant(code: &str) -> bool {
    matches!(code, "invalid_grant" | "invalid_token" | "bad_refresh_token" | "token_revoked")
}
