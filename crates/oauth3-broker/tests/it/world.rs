//! Everything that a test needs, and how agents and owners speak in them.

use crate::fakes::{Act, FakeChannel, FakeClock, FakeHttp, FakeKeeper, FakeRunner, RunnerHandle};
use oauth3_broker::{Broker, BrokerConfig, Ports, WakeConfig};
use oauth3_core::{
    AgentName, AgentPort, Ceilings, Declared, Draft, Execution, Fault, Limits, NewSecret, OwnerPort, RequestId, Reveal,
    SecretName, Source, Status, Store, Submitted, Trust, UsesChange, Verdict, WriteOnly,
};
use oauth3_store::SqliteStore;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tempfile::TempDir;

/// Long enough that only a broken test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// 2027-01-15, more or less.
const NOW_MILLIS: i64 = 1_800_000_000_000;
pub(crate) const CODE: &str = "console.log('hello')";

pub(crate) struct World {
    pub(crate) broker: Arc<Broker>,
    pub(crate) config: BrokerConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) keeper: Arc<FakeKeeper>,
    pub(crate) runner: Arc<FakeRunner>,
    pub(crate) http: Arc<FakeHttp>,
    pub(crate) channel: Arc<FakeChannel>,
    _folder: TempDir,
}

pub(crate) fn config() -> BrokerConfig {
    BrokerConfig {
        catalog: std::sync::Arc::new(oauth3_provider::Catalog::embedded().unwrap()),
        api_budget: oauth3_core::Budget::default(),
        identities: std::sync::Arc::new(oauth3_provider::Identities::embedded().unwrap()),
        commands: vec!["curl".to_owned()],
        imports: oauth3_broker::ImportRules::default(),
        pending_for: Duration::from_secs(15 * 60),
        requests_per_minute: 60,
        pending_per_agent: 20,
        ceilings: Ceilings {
            most: Limits { timeout_ms: 600_000, cpu_ms: 600_000, processes: 32, ..Limits::STANDARD },
            default_timeout_ms: 30_000,
        },
        runs: 8,
        anonymous_agent: None,
        wake: WakeConfig::default(),
    }
}

pub(crate) fn bot() -> AgentName {
    AgentName::parse("bot").unwrap()
}

pub(crate) fn draft(code: &str) -> Draft {
    Draft {
        skill_id: "greeting".into(),
        source: Source::Inline(code.as_bytes().to_vec()),
        args: serde_json::Map::new(),
        body: Declared::default(),
        metadata: Declared::default(),
    }
}

pub(crate) fn draft_with_secrets(code: &str, secrets: &[&str]) -> Draft {
    let names = secrets.iter().map(|s| (*s).to_owned()).collect();
    let metadata = Declared {
        secrets: Some(names),
        network: Some(vec!["api.example.com".into()]),
        description: Some("says hello".into()),
        ..Declared::default()
    };
    Draft { metadata, ..draft(code) }
}

pub(crate) const fn approve(trust: Trust) -> Verdict {
    Verdict::Approve { trust }
}

pub(crate) fn deny(reason: &str) -> Verdict {
    Verdict::Deny { reason: Some(reason.into()) }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A started broker with the agent `bot`.
    pub(crate) async fn with(change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let world = Self::not_started(change).await;
        world.broker.start().await.unwrap();
        world
    }

    pub(crate) async fn not_started(change: impl FnOnce(&mut BrokerConfig)) -> Self {
        Self::build(change, FakeRunner::default(), FakeChannel::default()).await
    }

    pub(crate) async fn build(
        change: impl FnOnce(&mut BrokerConfig),
        runner: FakeRunner,
        channel: FakeChannel,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = SqliteStore::open(&folder.path().join("oauth3.db"), &folder.path().join("head")).await;
        let store: Arc<dyn Store> = Arc::new(opened.unwrap());
        let clock = Arc::new(FakeClock(AtomicI64::new(NOW_MILLIS)));
        let mut config = config();
        change(&mut config);
        let keeper = Arc::new(FakeKeeper::new(store.clone(), clock.clone()));
        let (runner, http, channel) = (Arc::new(runner), Arc::new(FakeHttp::default()), Arc::new(channel));
        let mut world = Self {
            broker: Broker::new(config.clone(), ports(&store, &keeper, &runner, &http, &clock)),
            config,
            store,
            clock,
            keeper,
            runner,
            http,
            channel,
            _folder: folder,
        };
        world.attach_new();
        world.broker.add_agent(&bot(), "test").await.unwrap();
        world
    }

    /// The gateway stops (as if killed when not `graceful`) and another takes over.
    pub(crate) async fn restart(&mut self) {
        self.replace().await;
        self.broker.start().await.unwrap();
    }

    /// Another broker on the same state, not started. The old one is forgotten as it stands.
    pub(crate) async fn replace(&mut self) {
        self.attach_new();
    }

    fn attach_new(&mut self) {
        let ports = ports(&self.store, &self.keeper, &self.runner, &self.http, &self.clock);
        self.broker = Broker::new(self.config.clone(), ports);
        self.broker.attach(self.channel.clone());
    }

    pub(crate) fn acts(&self, acts: impl IntoIterator<Item = Act>) {
        *self.runner.acts.lock().unwrap() = acts.into_iter().collect();
    }

    pub(crate) async fn submit(&self, draft: Draft) -> Result<Submitted, Fault> {
        AgentPort::submit(&*self.broker, &bot(), draft).await
    }

    /// Submits what must be asked about.
    pub(crate) async fn ask(&self, draft: Draft) -> RequestId {
        let submitted = self.submit(draft).await.unwrap();
        assert_eq!(submitted.execution.status, Status::Pending);
        submitted.execution.id
    }

    pub(crate) async fn verdict(&self, id: &RequestId, verdict: Verdict) -> Result<Execution, Fault> {
        self.broker.verdict(id, verdict, "cli").await
    }

    pub(crate) async fn get(&self, id: &RequestId) -> Execution {
        self.store.execution(id).await.unwrap().unwrap()
    }

    /// Waits until it is in this status.
    pub(crate) async fn reaches(&self, id: &RequestId, status: Status) -> Execution {
        let mut seen = self.get(id).await;
        while seen.status != status {
            assert!(!seen.status.is_final(), "{status} is not reached: {} {:?}", seen.status, seen.error);
            let before = seen.status;
            seen = self.broker.wait(id, before, PATIENCE).await.unwrap();
            assert_ne!(seen.status, before, "{status} is not reached");
        }
        seen
    }

    /// Submits, approves and waits for the end.
    pub(crate) async fn run(&self, draft: Draft, trust: Trust) -> Execution {
        let id = self.ask(draft).await;
        self.verdict(&id, approve(trust)).await.unwrap();
        self.ends(&id).await
    }

    /// Waits for a final status.
    pub(crate) async fn ends(&self, id: &RequestId) -> Execution {
        let mut seen = self.get(id).await;
        while !seen.status.is_final() {
            let before = seen.status;
            seen = self.broker.wait(id, before, PATIENCE).await.unwrap();
            assert_ne!(seen.status, before, "it does not end");
        }
        seen
    }

    pub(crate) async fn add_secret(&self, name: &str) {
        self.add_secret_that_reveals(name, Reveal::Never).await;
    }

    /// Also puts it in the place of one that is there.
    pub(crate) async fn add_secret_that_reveals(&self, name: &str, reveal: Reveal) {
        let secret = NewSecret {
            name: SecretName::parse(name).unwrap(),
            hosts: [oauth3_core::Host::parse("api.example.com").unwrap()].into(),
            uses: UsesChange { reveal: Some(reveal), ..UsesChange::default() },
            replace: false,
            by: "cli".into(),
        };
        self.broker.put_secret(secret, WriteOnly::new(b"value".to_vec())).await.unwrap();
    }

    /// How many runs there ever were.
    pub(crate) fn ran(&self) -> usize {
        self.runner.jobs.lock().unwrap().len()
    }

    /// Waits until so many sandboxes are there.
    pub(crate) async fn alive(&self, count: usize) {
        let mut alive = self.runner.alive.subscribe();
        tokio::time::timeout(PATIENCE, alive.wait_for(|n| *n == count)).await.unwrap().unwrap();
    }
}

fn ports(
    store: &Arc<dyn Store>,
    keeper: &Arc<FakeKeeper>,
    runner: &Arc<FakeRunner>,
    http: &Arc<FakeHttp>,
    clock: &Arc<FakeClock>,
) -> Ports {
    Ports {
        store: store.clone(),
        keeper: keeper.clone(),
        runner: Arc::new(RunnerHandle(runner.clone())),
        http: http.clone(),
        clock: clock.clone(),
    }
}
