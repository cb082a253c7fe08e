//! A sign-in starts, and is followed until it comes to something.

use super::browser::{Browser, Returned};
use super::kept::{Device, Secret};
use super::net::{Trouble, reply};
use super::settle::role_of;
use super::state::{Held, Token};
use super::{SignIns, event};
use crate::audit::ACTOR;
use oauth3_core::{ApiId, Attempt, AttemptEnd, AuditKind, FailedAttempt, Fault, Prompt, SignInRecord, Timestamp};
use oauth3_oauth::{Client, DeviceGrant, DeviceStep, Failure, TokenSet, read_tokens};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a sign-in in the browser waits.
const BROWSER_PATIENCE: Duration = Duration::from_secs(600);
/// Longest name of who asks, in bytes.
const MAX_BY_BYTES: usize = 128;

impl SignIns {
    /// Begins a sign-in, or joins the one that is under way.
    pub(super) async fn begin(&self, api: &ApiId, by: &str) -> Result<SignInRecord, Fault> {
        if by.is_empty() || by.len() > MAX_BY_BYTES {
            return Err(Fault::InvalidRequest("who asks for the sign-in has no proper name".into()));
        }
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        if let Some(from) = held.setup.from.clone() {
            return self.begin_derived(held, &from, by).await;
        }
        self.begin_at(&mut held, by).await?;
        Ok(held.record)
    }

    /// The same of a connection whose turn it is.
    pub(super) async fn begin_at(&self, held: &mut Held, by: &str) -> Result<(), Fault> {
        let api = held.record.connection.clone();
        let now = self.clock.now();
        if held.record.attempt.as_ref().is_some_and(|attempt| attempt.expires_at > now) {
            return Ok(());
        }
        let (provider, _) = self.identity(&held.setup)?;
        let scopes: Vec<String> = held.setup.scopes.iter().cloned().collect();
        provider.check_scopes(&scopes, false).map_err(|error| Fault::InvalidRequest(error.to_string()))?;
        if self.is_aws(&held.setup) {
            role_of(&held.setup)?;
        }
        let for_devices = provider.check_scopes(&scopes, true);
        let began = event(&api, AuditKind::SignIn, by, "begun").with("provider", held.setup.provider.as_str());
        self.audit.append(&[began.with("scopes", scopes.clone())]).await?;
        self.register(held, now).await?;
        let client = self.client(held).await?;
        let by_code = client.server.device.is_some() && for_devices.is_ok();
        if by_code {
            self.begin_by_code(held, client, &scopes, by).await?;
        } else if client.server.authorization.is_some() {
            self.begin_in_browser(held, client, &scopes, by).await?;
        } else {
            let failure = Failure::NoEndpoint("endpoint where a sign-in could start");
            return Err(match for_devices {
                Err(error) => Fault::InvalidRequest(error.to_string()),
                Ok(()) => Trouble::Failed(failure).into(),
            });
        }
        Ok(())
    }

    async fn begin_by_code(&self, held: &mut Held, client: Client, scopes: &[String], by: &str) -> Result<(), Fault> {
        let exchange = DeviceGrant::start(&client, scopes).map_err(Trouble::Failed)?;
        let got = self.send(&held.setup, exchange).await?;
        let now = self.clock.now();
        let (grant, shown) = DeviceGrant::begin(&client, &reply(&got), now).map_err(Trouble::Failed)?;
        let prompt = Prompt {
            address: shown.verification_uri.as_str().to_owned(),
            code: Some(shown.user_code.as_str().to_owned()),
            address_with_code: shown.verification_uri_complete.map(|address| address.as_str().to_owned()),
        };
        let (code, interval) = grant.kept();
        held.kept.device = Some(Device { code: Secret::copied(code), interval_seconds: interval.as_secs() });
        self.put_attempt(held, by, prompt, shown.expires_at).await?;
        self.follow_code(&held.record.connection, client, grant);
        Ok(())
    }

    async fn begin_in_browser(
        &self,
        held: &mut Held,
        client: Client,
        scopes: &[String],
        by: &str,
    ) -> Result<(), Fault> {
        let browser = Browser::open(&client, scopes).await?;
        let prompt = Prompt { address: browser.address().to_owned(), code: None, address_with_code: None };
        let until = self.clock.now().plus(BROWSER_PATIENCE);
        self.put_attempt(held, by, prompt, until).await?;
        self.follow_browser(&held.record.connection, client, browser);
        Ok(())
    }

    async fn put_attempt(&self, held: &mut Held, by: &str, prompt: Prompt, until: Timestamp) -> Result<(), Fault> {
        let began_at = self.clock.now();
        held.record.attempt =
            Some(Attempt { asked_by: by.to_owned(), began_at, expires_at: until, prompt, other_account: None });
        held.record.failure = None;
        held.kept.waiting = None;
        self.save(held, Token::Keep).await
    }

    /// Goes on with a sign-in that a keeper before this one began.
    pub(super) async fn resume_one(&self, api: &ApiId, attempt: &Attempt) {
        let resumed = async {
            let held = self.load(api).await?;
            let now = self.clock.now();
            if attempt.other_account.is_some() {
                self.await_word(api, attempt.expires_at);
                return Ok(());
            }
            match &held.kept.device {
                Some(device) if attempt.expires_at > now => {
                    let client = self.client(&held).await?;
                    let interval = Duration::from_secs(device.interval_seconds);
                    let code = Secret::copied(&device.code.0).0;
                    self.follow_code(api, client, DeviceGrant::resume(code, interval, attempt.expires_at, now));
                    Ok(())
                }
                Some(_) => self.fail(api, AttemptEnd::Expired, &Failure::Expired.to_string()).await,
                None => {
                    let sentence = "oauth3 was restarted in the middle of it; start the sign-in again";
                    self.fail(api, AttemptEnd::Failed, sentence).await
                }
            }
        };
        let resumed: Result<(), Fault> = resumed.await;
        if let Err(fault) = resumed {
            let sentence = format!("it could not go on after a restart: {fault}");
            let failed = self.fail(api, AttemptEnd::Failed, &sentence).await;
            tracing::warn!(connection = %api, %fault, ended = failed.is_ok(), "a sign-in did not go on");
        }
    }

    /// Stops the one that is under way.
    pub(super) async fn cancel(&self, api: &ApiId, by: &str) -> Result<SignInRecord, Fault> {
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        if held.record.attempt.is_none() {
            return Err(Fault::AlreadyDecided(format!("no sign-in to {} is under way", api.name())));
        }
        self.record(api, AuditKind::SignIn, by, "cancelled").await?;
        self.stop(api);
        let waiting = held.kept.waiting.take();
        held.record.attempt = None;
        let (at, sentence) = (self.clock.now(), "it was stopped before anybody signed in".to_owned());
        held.record.failure = Some(FailedAttempt { at, end: AttemptEnd::Cancelled, sentence });
        held.kept.device = None;
        self.save(&mut held, Token::Keep).await?;
        if let Some(waiting) = waiting {
            self.give_back(&held, &waiting.access_token, waiting.refresh_token.as_ref()).await;
        }
        Ok(held.record)
    }

    fn follow_code(&self, api: &ApiId, client: Client, grant: DeviceGrant) {
        let Some(me) = self.me.upgrade() else { return };
        let (api, stop) = (api.clone(), self.follow(api));
        self.spawn(async move { me.poll(&api, client, grant, stop).await });
    }

    fn follow_browser(&self, api: &ApiId, client: Client, browser: Browser) {
        let Some(me) = self.me.upgrade() else { return };
        let (api, stop) = (api.clone(), self.follow(api));
        self.spawn(async move { me.await_browser(&api, client, browser, stop).await });
    }

    pub(super) fn follow(&self, api: &ApiId) -> watch::Receiver<bool> {
        let (stop, stopped) = watch::channel(false);
        if let Some(before) = self.lock(&self.followed).insert(api.clone(), stop) {
            before.send_replace(true);
        }
        stopped
    }

    pub(super) fn stop(&self, api: &ApiId) {
        if let Some(followed) = self.lock(&self.followed).remove(api) {
            followed.send_replace(true);
        }
    }

    async fn poll(
        self: Arc<Self>,
        api: &ApiId,
        client: Client,
        mut grant: DeviceGrant,
        mut stop: watch::Receiver<bool>,
    ) {
        let Ok(held) = self.load(api).await else { return };
        let mut step = grant.next(&client, self.clock.now());
        loop {
            step = match step {
                DeviceStep::Wait(at) => {
                    tokio::select! {
                        () = tokio::time::sleep(at.since(self.clock.now())) => {}
                        stopped = stop.wait_for(|stopped| *stopped) => {
                            // Gone, or told to stop: somebody else has ended it.
                            drop(stopped);
                            return;
                        }
                    }
                    grant.next(&client, self.clock.now())
                }
                DeviceStep::Send(exchange) => match self.send(&held.setup, exchange).await {
                    Ok(got) => grant.on_reply(&client, &reply(&got), self.clock.now()),
                    Err(trouble) => {
                        tracing::info!(connection = %api, %trouble, "a poll of a sign-in came to nothing");
                        grant.on_fault(self.clock.now())
                    }
                },
                DeviceStep::Done(tokens) => return self.came(api, &client, tokens, None).await,
                DeviceStep::Ended(failure) => return self.end(api, end_of(&failure), &failure.to_string()).await,
            };
        }
    }

    async fn await_browser(
        self: Arc<Self>,
        api: &ApiId,
        client: Client,
        mut browser: Browser,
        mut stop: watch::Receiver<bool>,
    ) {
        let returned = tokio::select! {
            returned = browser.returned(&client, BROWSER_PATIENCE) => returned,
            stopped = stop.wait_for(|stopped| *stopped) => {
                drop(stopped);
                return;
            }
        };
        let Returned { exchange, page } = match returned {
            Ok(returned) => returned,
            Err(failure) => return self.end(api, end_of(&failure), &failure.to_string()).await,
        };
        let Ok(held) = self.load(api).await else { return };
        let got = self.send(&held.setup, exchange).await;
        let tokens = got.and_then(|got| Ok(read_tokens(&client, &reply(&got), self.clock.now())?));
        page.finish(tokens.is_ok()).await;
        match tokens {
            Ok(tokens) => self.came(api, &client, tokens, Some(browser.nonce())).await,
            Err(trouble) => self.end(api, AttemptEnd::Failed, &trouble.to_string()).await,
        }
    }

    async fn came(&self, api: &ApiId, client: &Client, tokens: TokenSet, nonce: Option<&str>) {
        if let Err(sentence) = self.complete(api, client, tokens, nonce).await {
            self.end(api, AttemptEnd::Failed, &sentence).await;
        }
    }

    async fn end(&self, api: &ApiId, end: AttemptEnd, sentence: &str) {
        if let Err(fault) = self.fail(api, end, sentence).await {
            tracing::error!(connection = %api, %fault, "the end of a sign-in is not stored");
        }
    }

    /// It came to nothing.
    pub(super) async fn fail(&self, api: &ApiId, end: AttemptEnd, sentence: &str) -> Result<(), Fault> {
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        if held.record.attempt.take().is_none() {
            return Ok(());
        }
        self.audit.append(&[event(api, AuditKind::SignIn, ACTOR, "failed").with("reason", sentence)]).await?;
        held.kept.device = None;
        held.kept.waiting = None;
        held.record.failure = Some(FailedAttempt { at: self.clock.now(), end, sentence: sentence.to_owned() });
        self.save(&mut held, Token::Keep).await
    }
}

/// What an attempt came to that ended so.
const fn end_of(failure: &Failure) -> AttemptEnd {
    match failure {
        Failure::Denied => AttemptEnd::Denied,
        Failure::Expired => AttemptEnd::Expired,
        _ => AttemptEnd::Failed,
    }
}
