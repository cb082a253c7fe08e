//! The broker: what all steps share.

use crate::board::Board;
use crate::expiry::Expiries;
use crate::rate::RateLimiter;
use crate::runs::Runs;
use crate::wake::Waker;
use crate::{BrokerConfig, Ports};
use oauth3_core::{ApiId, AuditEvent, AuditKind, Channel, ChannelHealth, Execution, Fault, RequestId, Timestamp};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long the keeper may take to answer a message.
pub(crate) const KEEPER_PATIENCE: Duration = Duration::from_secs(20);

/// Takes requests in, decides, asks, runs, finishes and wakes.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) ports: Ports,
    pub(crate) rate: RateLimiter,
    pub(crate) runs: Runs,
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) board: Board<RequestId>,
    pub(crate) sign_ins: Board<ApiId>,
    pub(crate) expiries: Expiries,
    pub(crate) waker: Waker,
    /// One decision at a time: what was read is still so when it is acted on.
    pub(crate) desk: tokio::sync::Mutex<()>,
    channels: RwLock<Vec<Arc<dyn Channel>>>,
    tasks: Mutex<JoinSet<()>>,
    started: AtomicBool,
    me: Weak<Self>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("running", &self.runs.count()).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that runs nothing yet: until [`Broker::start`], the owner may look, deny, revoke and add, and
    /// whatever would run code is refused.
    #[must_use]
    pub fn new(config: BrokerConfig, ports: Ports) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            waker: Waker::new(config.wake.clone(), ports.clone()),
            seats: Arc::new(Semaphore::new(usize::try_from(config.runs).unwrap_or(Semaphore::MAX_PERMITS))),
            config,
            ports,
            rate: RateLimiter::default(),
            runs: Runs::default(),
            board: Board::default(),
            sign_ins: Board::default(),
            expiries: Expiries::default(),
            desk: tokio::sync::Mutex::new(()),
            channels: RwLock::default(),
            tasks: Mutex::default(),
            started: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// Adds a way to reach the owner.
    pub fn attach(&self, channel: Arc<dyn Channel>) {
        self.channels.write().unwrap_or_else(PoisonError::into_inner).push(channel);
    }

    /// Takes up what the store holds (see the module `recovery`), then expires, resumes and wakes by itself.
    ///
    /// # Errors
    /// When the store or the keeper does not answer.
    pub async fn start(&self) -> Result<(), Fault> {
        self.record(AuditEvent::new(AuditKind::Started, "gateway")).await?;
        self.recover().await?;
        let me = self.me.clone();
        self.spawn(async move { Self::expire_on_time(me).await });
        let me = self.me.clone();
        self.spawn(async move { Self::serve_proxy(me).await });
        Ok(())
    }

    /// The keeper died: what it had open has lost its network and its output. Runs end as `interrupted`, and so do
    /// calls that were allowed once.
    pub async fn keeper_lost(&self) {
        self.runs.end_all(crate::runs::EndReason::KeeperLost).wait().await;
        self.end_calls().await;
    }

    /// Stops: runs end as `interrupted`, open requests stay for the next start.
    pub async fn shutdown(&self) {
        self.started.store(false, Ordering::SeqCst);
        self.runs.end_all(crate::runs::EndReason::Shutdown).wait().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    /// Whether code may run: between [`Broker::start`] and [`Broker::shutdown`].
    pub(crate) fn runs_code(&self) -> Result<(), Fault> {
        if self.started.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Fault::Unavailable("the gateway is not running; start it with: oauth3 serve".to_owned()))
    }

    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Writes the audit before an effect. When it cannot be written, the effect must not happen.
    pub(crate) async fn record(&self, event: AuditEvent) -> Result<(), Fault> {
        patiently(self.ports.keeper.audit(event)).await
    }

    /// Writes the audit of something that only takes rights away, which happens even when it cannot be written.
    pub(crate) async fn record_if_possible(&self, event: AuditEvent) {
        let kind = event.kind.as_str();
        if let Err(fault) = self.record(event).await {
            tracing::error!(kind, %fault, "not in the audit, for the keeper does not answer");
        }
    }

    /// Tells everybody who shows or awaits this request.
    pub(crate) fn changed(&self, execution: &Execution) {
        if execution.status.is_open() {
            self.expiries.add(execution.expires_at, &execution.id);
        }
        self.board.changed(&execution.id);
        for channel in self.channels() {
            channel.changed(&execution.id);
        }
    }

    /// The ways to reach the owner.
    pub(crate) fn channels(&self) -> Vec<Arc<dyn Channel>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The channels that the owner is asked on.
    pub(crate) fn asked(&self) -> Vec<String> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let used = channels.iter().filter(|channel| channel.health() != ChannelHealth::Disabled);
        used.map(|channel| channel.name().to_owned()).collect()
    }

    pub(crate) fn channel_health(&self, name: &str) -> ChannelHealth {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.iter().find(|channel| channel.name() == name).map_or(ChannelHealth::Disabled, |c| c.health())
    }

    /// One request, or the fault that says that there is none.
    pub(crate) async fn load(&self, id: &RequestId) -> Result<Execution, Fault> {
        let found = self.ports.store.execution(id).await?;
        found.ok_or_else(|| Fault::NotFound("there is no such request".to_owned()))
    }

    /// Does something to its end even when whoever asked for it hangs up in the middle.
    pub(crate) async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let gone = || Fault::Unavailable("the gateway stops".to_owned());
        let me = self.me.upgrade().ok_or_else(gone)?;
        tokio::spawn(work(me)).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Starts a task that ends with the broker.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(crate) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }
}

/// Waits for the keeper, but not for ever: what it does not answer in time it does not permit.
pub(crate) async fn patiently<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(KEEPER_PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::Unavailable("the keeper does not answer".to_owned())),
    }
}
