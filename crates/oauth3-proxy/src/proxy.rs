//! The proxy as a whole.

use crate::asks::Asks;
use crate::authorities::Authorities;
use crate::backing::Backing;
use crate::book::{Api, Book};
use crate::journal::{Entry, Journal};
use crate::keys::{Key, KeyRing};
use crate::ledger::Ledger;
use crate::limits::{SWEEP_EVERY, USAGE_EVERY, WHOLE_BODIES_BYTES};
use crate::refuse::Refused;
use crate::serve;
use crate::upstream::Upstream;
use http::StatusCode;
use oauth3_core::{AgentName, ApiId, Clock, Fault, HostPattern, KeeperEvent, RequestId};
use oauth3_dial::Dialer;
use oauth3_inject::messages::Decoders;
use oauth3_provider::{Catalog, Prices};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// In what steps the memory for bodies is shared out, in bytes (4 KiB).
const ROOM_UNIT_BYTES: usize = 4 << 10;

/// What a proxy is made from.
pub struct ProxyConfig {
    /// The APIs that are known by name.
    pub catalog: Catalog,
    /// What models cost.
    pub prices: Prices,
    /// How long a call waits for the owner, unless its client says less.
    pub patience: Duration,
    /// Whether each call is on disk before it leaves. Otherwise it is soon after, and a power failure may lose the
    /// record of the last moments.
    pub durable: bool,
    /// Hosts that agents may reach without any secret.
    pub forward_hosts: Vec<HostPattern>,
}

/// The proxy, or the part of it that one thread serves: with connections of its own, so that a call stays on its thread.
pub struct Proxy {
    shared: Arc<Shared>,
    pub(crate) upstream: Upstream,
}

/// What all threads share.
pub struct Shared {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) providers: Vec<Arc<Api>>,
    /// Providers that cannot be called, and what the owner must do first.
    pub(crate) unusable: HashMap<ApiId, String>,
    pub(crate) prices: Prices,
    pub(crate) patience: Duration,
    durable: bool,
    pub(crate) forward_hosts: Vec<HostPattern>,
    pub(crate) journal: Journal,
    pub(crate) authorities: Authorities,
    book: watch::Sender<Arc<Book>>,
    pub(crate) keys: KeyRing,
    pub(crate) ledger: Ledger,
    dialer: Dialer,
    pub(crate) asks: Asks,
    pub(crate) decoders: Decoders,
    /// Calls that wait for the owner, all that go on, and tunnels, by agent.
    pub(crate) waiting: Counted,
    pub(crate) going: Counted,
    pub(crate) tunnels: Counted,
    room: Arc<Semaphore>,
    reading: tokio::sync::Mutex<()>,
    /// The book could not be read.
    unread: AtomicBool,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}

impl Deref for Proxy {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Proxy {
    /// Reads who may do what, and begins to keep the sums of usage.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(
        config: ProxyConfig,
        backing: Arc<dyn Backing>,
        clock: Arc<dyn Clock>,
        dialer: &Dialer,
    ) -> Result<Arc<Self>, Fault> {
        let (mut providers, mut unusable) = (Vec::new(), HashMap::new());
        for provider in config.catalog.providers() {
            match (Api::of_provider(provider), ApiId::provider(&provider.name)) {
                (Ok(api), _) => providers.push(Arc::new(api)),
                (Err(reason), Ok(id)) => drop(unusable.insert(id, reason)),
                (Err(_), Err(error)) => tracing::warn!(%error, "a provider's name cannot be used"),
            }
        }
        let shared = Arc::new(Shared {
            journal: Journal::new(backing.clone()),
            backing,
            clock,
            providers,
            unusable,
            prices: config.prices,
            patience: config.patience,
            durable: config.durable,
            forward_hosts: config.forward_hosts,
            authorities: Authorities::default(),
            book: watch::Sender::new(Arc::default()),
            keys: KeyRing::default(),
            ledger: Ledger::default(),
            asks: Asks::default(),
            dialer: dialer.clone(),
            decoders: Decoders::default(),
            waiting: Counted::default(),
            going: Counted::default(),
            tunnels: Counted::default(),
            room: Arc::new(Semaphore::new(WHOLE_BODIES_BYTES / ROOM_UNIT_BYTES)),
            reading: tokio::sync::Mutex::new(()),
            unread: AtomicBool::new(false),
        });
        shared.refresh().await?;
        let me = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(shared) = me.upgrade() {
                // Nothing happens when neither does for a second.
                let _ = tokio::time::timeout(USAGE_EVERY, shared.ledger.full.notified()).await;
                shared.ledger.store(shared.backing.store()).await;
                if shared.unread.load(Ordering::Relaxed)
                    && let Err(fault) = shared.refresh().await
                {
                    tracing::warn!(%fault, "who may do what cannot be read, so nothing is permitted");
                }
            }
        });
        Ok(Self::part(shared))
    }

    /// What one thread serves; begins what goes on beside it, on the runtime that this is called in.
    fn part(shared: Arc<Shared>) -> Arc<Self> {
        let upstream = Upstream::new(&shared.dialer);
        let part = Arc::new(Self { shared, upstream });
        let me = Arc::downgrade(&part);
        tokio::spawn(async move {
            while let Some(part) = me.upgrade() {
                part.upstream.sweep();
                drop(part);
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        });
        part
    }

    /// Serves agents until the listener fails for good, each connection on one of these runtimes, in turn. Dropped,
    /// every call ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, runtimes: Vec<Handle>) {
        let parts = runtimes.into_iter().map(|runtime| {
            let entered = runtime.enter();
            let part = Self::part(self.shared.clone());
            drop(entered);
            (runtime, part)
        });
        serve::serve(parts.collect(), listener).await;
    }

    /// What this part shares with the others.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Records a call. False: it must not be made.
    pub(crate) async fn write(&self, entry: Entry) -> bool {
        if self.durable { self.journal.record(entry).await } else { self.journal.note(entry) }
    }
}

impl Shared {
    /// Stores the sums of usage, and reads anew who may do what. Calls that may not go on end.
    ///
    /// # Errors
    /// When the store does not answer: then nothing is permitted until it does, which is tried every second.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let _turn = self.reading.lock().await;
        self.ledger.store(self.backing.store()).await;
        let read = Book::read(self, self.clock.now()).await;
        let (book, outcome) = match read {
            Ok(book) => (book, Ok(())),
            Err(fault) => (Book::default(), Err(fault)),
        };
        self.unread.store(outcome.is_err(), Ordering::Relaxed);
        self.book.send_replace(Arc::new(book));
        outcome
    }

    /// The key as it is now: the access token of a connection is renewed before it ends.
    pub(crate) async fn current(&self, key: Arc<Key>) -> Result<Arc<Key>, Fault> {
        if key.secret.connection().is_none() {
            return Ok(key);
        }
        let version = self.backing.fresh(&key.secret).await?;
        if version == key.version {
            return Ok(key);
        }
        Box::pin(self.refresh()).await?;
        let known = self.keys.lock().get(&key.secret).filter(|known| known.version == version).cloned();
        known.ok_or_else(|| Fault::Unavailable(format!("{} has just changed; try again", key.secret)))
    }

    /// Whether another try makes sense after a reply that refuses a key: with the next key, or the renewed token.
    pub(crate) async fn has_another(&self, key: Option<&Key>, status: StatusCode) -> bool {
        let Some(key) = key.filter(|key| key.secret.connection().is_some()) else { return true };
        let renewed = async { self.backing.renew(&key.secret, key.version).await };
        status == StatusCode::UNAUTHORIZED && matches!(renewed.await, Ok(Some(_)))
    }

    /// Stores the sums of usage, and writes down what was noted.
    pub async fn finish(&self) {
        self.journal.flush().await;
        self.ledger.store(self.backing.store()).await;
    }

    /// The next thing that the gateway is to do.
    pub async fn next_event(&self) -> Option<KeeperEvent> {
        self.asks.next().await
    }

    /// Says what became of an ask: the request that the owner sees now, or why there is none.
    pub fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) {
        self.asks.answer(number, answer);
    }

    pub(crate) fn book(&self) -> Arc<Book> {
        self.book.borrow().clone()
    }

    /// Returns when the book is another than at the time of this call.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut book = self.book.subscribe();
        async move {
            // Gone with the proxy: whoever waits goes with it.
            let _ = book.changed().await;
        }
    }

    /// Room for a body that is read whole. A small one needs none of its own.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Option<Arc<OwnedSemaphorePermit>>, Refused> {
        let units = u32::try_from(bytes / ROOM_UNIT_BYTES).unwrap_or(u32::MAX);
        if units == 0 {
            return Ok(None);
        }
        let place = Arc::clone(&self.room).acquire_many_owned(units).await;
        place.map(|place| Some(Arc::new(place))).map_err(|_| Refused::unavailable("the proxy stops"))
    }
}

/// Counts what each agent has under way. An agent keeps its count: there are no more of them than the owner has added.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashMap<AgentName, Arc<AtomicUsize>>>);

/// One of them, as long as it lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Counted {
    /// One more; nothing when there are `most` already.
    pub(crate) fn enter(&self, agent: &AgentName, most: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match counts.get(agent) {
            Some(count) => count.clone(),
            None => counts.entry(agent.clone()).or_default().clone(),
        };
        drop(counts);
        let more = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1));
        more.is_ok().then(|| Place(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
