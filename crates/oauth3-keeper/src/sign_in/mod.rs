//! Sign-ins: begun, followed, kept fresh and ended. The only part that speaks to identity providers.
//!
//! - [`begin`]: a sign-in starts, and is followed until it comes to something.
//! - [`settle`]: what it came to.
//! - [`fresh`]: an access token that is good now; refreshing.
//! - [`mod@derive`]: one that is got from another connection's sign-in.
//! - [`leave`]: signing out.

mod begin;
mod browser;
mod derive;
mod fresh;
mod kept;
mod leave;
mod net;
mod settle;
mod state;

use crate::audit::Audit;
use kept::Secret;
use oauth3_core::{
    ApiId, AuditEvent, AuditKind, Clock, Fault, KeeperEvent, SignInOrder, SignInRecord, SignInSetup, Store, Timestamp,
};
use oauth3_dial::{Dialer, HttpClient};
use oauth3_oauth::Sensitive;
use oauth3_provider::{Identities, Protocol};
use oauth3_vault::Vault;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

/// News that may wait for the gateway.
const EVENT_QUEUE: usize = 256;
/// How long a keeper that stops waits for refreshes to be stored.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// Longest client secret, in bytes.
const MAX_CLIENT_SECRET_BYTES: usize = 4 << 10;

/// Every sign-in of this keeper.
pub(crate) struct SignIns {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    http: HttpClient,
    identities: Identities,
    /// One thing at a time with each sign-in and what is derived from it.
    turns: Mutex<HashMap<ApiId, Arc<tokio::sync::Mutex<()>>>>,
    /// Sign-ins that are followed; true stops one.
    followed: Mutex<HashMap<ApiId, watch::Sender<bool>>>,
    /// Tokens that were found fresh.
    ready: Mutex<HashMap<ApiId, Ready>>,
    /// Refreshes that did not work: how often in a row, and until when none is tried.
    resting: Mutex<HashMap<ApiId, (u32, Timestamp)>>,
    /// When a token was last refreshed because an API did not take it.
    refused: Mutex<HashMap<ApiId, Timestamp>>,
    events: mpsc::Sender<KeeperEvent>,
    queue: tokio::sync::Mutex<mpsc::Receiver<KeeperEvent>>,
    tasks: Mutex<JoinSet<()>>,
    /// What a keeper that stops waits for.
    refreshes: Mutex<JoinSet<()>>,
    me: Weak<Self>,
}

/// A token that was found fresh.
struct Ready {
    version: u32,
    /// Until then it needs no second look.
    until: Timestamp,
    /// The connection whose sign-in it is from.
    parent: Option<ApiId>,
}

impl SignIns {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        audit: Arc<Audit>,
        clock: Arc<dyn Clock>,
        dialer: Dialer,
        identities: Identities,
    ) -> Arc<Self> {
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        Arc::new_cyclic(|me| Self {
            store,
            vault,
            audit,
            clock,
            http: HttpClient::new(dialer),
            identities,
            turns: Mutex::default(),
            followed: Mutex::default(),
            ready: Mutex::default(),
            resting: Mutex::default(),
            refused: Mutex::default(),
            events,
            queue: tokio::sync::Mutex::new(queue),
            tasks: Mutex::default(),
            refreshes: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Does what was ordered; gives the record as it then is.
    pub(crate) async fn order(&self, api: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        match order {
            SignInOrder::Begin => {
                let (api, by) = (api.clone(), by.to_owned());
                self.to_the_end(async move |me| me.begin(&api, &by).await).await
            }
            SignInOrder::Cancel => self.cancel(api, by).await,
            SignInOrder::KeepAccount => self.keep_account(api, by).await,
            SignInOrder::RefuseAccount => self.refuse_account(api, by).await,
            SignInOrder::SignOut => self.sign_out(api, by).await,
        }
    }

    /// Seals a client secret; an empty one takes it away.
    pub(crate) async fn put_client_secret(
        &self,
        api: &ApiId,
        value: Zeroizing<Vec<u8>>,
        by: &str,
    ) -> Result<(), Fault> {
        let fine = value.len() <= MAX_CLIENT_SECRET_BYTES && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(&value).ok().filter(|_| fine);
        let text = text.ok_or_else(|| {
            Fault::InvalidRequest(format!(
                "a client secret is at most {MAX_CLIENT_SECRET_BYTES} printable characters, on one line"
            ))
        })?;
        let _turn = self.turn(api).await?;
        let mut held = self.load(api).await?;
        let change = if text.is_empty() { "client_secret_removed" } else { "client_secret_set" };
        self.record(api, AuditKind::SignIn, by, change).await?;
        held.kept.client_secret = (!text.is_empty()).then(|| Secret(Sensitive::copied(text)));
        self.save(&mut held, state::Token::Keep).await
    }

    /// Takes up what a keeper before this one left. It asks identity providers, so it goes on by itself.
    pub(crate) async fn resume(&self) -> Result<(), Fault> {
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        let under_way = self.store.sign_ins().await?.into_iter().filter_map(|record| {
            let attempt = record.attempt?;
            Some((record.connection, attempt))
        });
        let under_way: Vec<_> = under_way.collect();
        self.spawn(async move {
            for (connection, attempt) in under_way {
                me.resume_one(&connection, &attempt).await;
            }
        });
        Ok(())
    }

    /// The next thing that the gateway is to know.
    pub(crate) async fn next_event(&self) -> Option<KeeperEvent> {
        self.queue.lock().await.recv().await
    }

    /// Ends what is followed; the next keeper goes on with it.
    pub(crate) async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.lock(&self.tasks));
        tasks.shutdown().await;
        let mut refreshes = std::mem::take(&mut *self.lock(&self.refreshes));
        let stored = async { while refreshes.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STORE_PATIENCE, stored).await;
    }

    fn tell(&self, api: &ApiId) {
        // Full only when the gateway hears nothing any more; what it missed it reads when it starts.
        let _ = self.events.try_send(KeeperEvent::SignIn(api.clone()));
    }

    /// Something changed, perhaps a connection: no token is used before its sign-in was looked at again.
    pub(crate) fn look_again(&self) {
        self.lock(&self.ready).clear();
    }

    /// What was known of a token's freshness does not hold any more, nor of those that are derived from its sign-in.
    fn forget(&self, api: &ApiId) {
        self.lock(&self.ready).retain(|known, ready| known != api && ready.parent.as_ref() != Some(api));
    }

    /// One thing at a time with each sign-in. What is derived from it takes the same turn: they share a refresh token.
    async fn turn(&self, api: &ApiId) -> Result<OwnedMutexGuard<()>, Fault> {
        loop {
            let root = self.root(api).await?;
            let turn = Arc::clone(self.lock(&self.turns).entry(root.clone()).or_default());
            let taken = turn.lock_owned().await;
            // It may have been defined anew meanwhile, from another one.
            if self.root(api).await? == root {
                return Ok(taken);
            }
        }
    }

    /// The connection that people sign in at for this one.
    async fn root(&self, api: &ApiId) -> Result<ApiId, Fault> {
        let found = self.store.connections().await?.into_iter().find(|connection| connection.api == *api);
        let from = found.and_then(|connection| connection.sign_in?.from);
        Ok(from.map_or_else(|| api.clone(), |from| from.parent))
    }

    fn lock<'a, T>(&self, what: &'a Mutex<T>) -> MutexGuard<'a, T> {
        what.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to its end even when whoever asked for it hangs up in the middle: the reply to a refresh token
    /// that was sent must be stored.
    async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let gone = || Fault::Unavailable("the keeper stops".to_owned());
        let me = self.me.upgrade().ok_or_else(gone)?;
        let (tell, told) = oneshot::channel();
        let work = work(me);
        {
            let mut refreshes = self.lock(&self.refreshes);
            while refreshes.try_join_next().is_some() {}
            // Nobody may wait for it any more.
            refreshes.spawn(async move { drop(tell.send(work.await)) });
        }
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Whether the provider of a setup speaks AWS's messages, and signs requests in place of a bearer token.
    fn is_aws(&self, setup: &SignInSetup) -> bool {
        self.identities.provider(&setup.provider).is_some_and(|provider| provider.protocol() == Protocol::AwsSso)
    }

    /// Starts a task that ends with the keeper.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn record(&self, api: &ApiId, kind: AuditKind, by: &str, change: &str) -> Result<(), Fault> {
        self.audit.append(&[event(api, kind, by, change)]).await
    }
}

fn event(api: &ApiId, kind: AuditKind, by: &str, change: &str) -> AuditEvent {
    AuditEvent::new(kind, by).with("connection", api.name()).with("change", change)
}
