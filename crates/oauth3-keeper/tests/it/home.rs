//! One data directory, a keeper on it, and the gateway's view of both.

use oauth3_core::{
    AgentName, AgentToken, AuditRow, Clock, Digest, Execution, Host, Intent, Keeper, Limits, NewSecret, RequestId,
    Runtime, SecretName, Status, Store, Timestamp, TokenHash, TokenId, Trust, WriteOnly,
};
use oauth3_dial::DialConfig;
use oauth3_keeper::{KeeperConfig, KeeperError, KeySource, ProxySetup, create_key, run};
use oauth3_store::SqliteStore;
use oauth3_wire::GatewaySide;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// When every test plays.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const VALUE: &str = "sk-proj-Real0123456789abcdefReal";
pub(crate) const AGENT: &str = "openclaw";

pub(crate) struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) store: SqliteStore,
    pub(crate) keeper: Arc<GatewaySide>,
    pub(crate) task: JoinHandle<Result<(), KeeperError>>,
}

impl Home {
    pub(crate) async fn new() -> Self {
        Self::dialling(DialConfig::default()).await
    }

    /// With a key, an active agent and a keeper that dials so.
    pub(crate) async fn dialling(dial: DialConfig) -> Self {
        Self::made(dial, None).await
    }

    /// With an API proxy.
    pub(crate) async fn with_proxy(proxy: ProxySetup) -> Self {
        Self::made(DialConfig::default(), Some(proxy)).await
    }

    /// Gives an agent a token.
    pub(crate) async fn token(&self, agent: &AgentName) -> String {
        let token = AgentToken::random().unwrap();
        self.store.replace_token(agent, &token.id(), &token.hash(), NOW).await.unwrap();
        token.reveal().to_owned()
    }

    async fn made(dial: DialConfig, proxy: Option<ProxySetup>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_key(&KeySource::File { dir: dir.path().to_owned() }).unwrap();
        let (keeper, task) = start_with(&dir, dial, proxy);
        keeper.ping().await.unwrap();
        let store = SqliteStore::open(&dir.path().join("oauth3.db"), &dir.path().join("audit.head")).await.unwrap();
        let hash = TokenHash(Digest::of(b"token"));
        store.insert_agent(&agent(), &TokenId("id".into()), &hash, NOW).await.unwrap();
        Self { dir, store, keeper: Arc::new(keeper), task }
    }

    pub(crate) fn owner_socket(&self) -> PathBuf {
        self.dir.path().join("keeper.sock")
    }

    pub(crate) async fn add_secret(&self, name: &str, host: &str) {
        self.keeper.put_secret(new_secret(name, &[host]), value(VALUE)).await.unwrap();
    }

    /// Stores a request, changed as the test wants it, and returns its id.
    pub(crate) async fn request(&self, change: impl FnOnce(&mut Execution)) -> RequestId {
        let mut execution = approved();
        change(&mut execution);
        self.store.insert_execution(&execution).await.unwrap();
        execution.id
    }

    pub(crate) async fn status(&self, id: &RequestId) -> Status {
        self.store.execution(id).await.unwrap().unwrap().status
    }

    pub(crate) async fn rows(&self) -> Vec<AuditRow> {
        self.store.audit_after(0, 1000).await.unwrap()
    }

    pub(crate) async fn kinds(&self) -> Vec<&'static str> {
        self.rows().await.iter().map(|row| row.event.kind.as_str()).collect()
    }

    /// Hangs up and waits until the keeper is gone.
    pub(crate) async fn hang_up(self) -> (TempDir, SqliteStore) {
        drop(self.keeper);
        self.task.await.unwrap().unwrap();
        (self.dir, self.store)
    }
}

/// Starts a keeper on a directory.
pub(crate) fn start(dir: &TempDir, dial: DialConfig) -> (GatewaySide, JoinHandle<Result<(), KeeperError>>) {
    start_with(dir, dial, None)
}

fn start_with(
    dir: &TempDir,
    dial: DialConfig,
    proxy: Option<ProxySetup>,
) -> (GatewaySide, JoinHandle<Result<(), KeeperError>>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let task = tokio::spawn(run(KeeperConfig {
        // Where the test's clock is.
        threads: 0,
        data_dir: dir.path().to_owned(),
        db_path: dir.path().join("oauth3.db"),
        audit_head: dir.path().join("audit.head"),
        key_source: KeySource::File { dir: dir.path().to_owned() },
        dial,
        gateway: theirs.into(),
        owner_socket: Some(dir.path().join("keeper.sock")),
        proxy,
        clock: Arc::new(Stopped),
    }));
    (GatewaySide::new(UnixStream::from_std(ours).unwrap()), task)
}

pub(crate) fn agent() -> AgentName {
    AgentName::parse(AGENT).unwrap()
}

pub(crate) fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

pub(crate) fn value(text: &str) -> WriteOnly {
    WriteOnly::new(text.as_bytes().to_vec())
}

pub(crate) fn new_secret(name: &str, hosts: &[&str]) -> NewSecret {
    NewSecret {
        name: SecretName::parse(name).unwrap(),
        hosts: hosts.iter().map(|h| host(h)).collect(),
        uses: Default::default(),
        replace: false,
        by: "telegram:42".into(),
    }
}

/// An approved request for `API_KEY` toward `api.example.com`.
pub(crate) fn approved() -> Execution {
    let code = b"console.log(1)".to_vec();
    let intent = Intent {
        agent: agent(),
        skill_id: "skill".parse().unwrap(),
        code_digest: Digest::of(&code),
        runtime: Runtime::Embedded,
        secrets: [SecretName::parse("API_KEY").unwrap()].into(),
        revealed: Default::default(),
        hosts: [host("api.example.com")].into(),
        limits: Limits { output_bytes: 100, ..Limits::STANDARD },
        access: None,
    };
    Execution {
        id: RequestId::random().unwrap(),
        intent_digest: intent.digest(),
        intent,
        description: String::new(),
        skill_url: None,
        code,
        args: Default::default(),
        status: Status::Approved,
        created_at: NOW,
        expires_at: NOW.plus(std::time::Duration::from_secs(900)),
        approved_at: Some(NOW),
        executed_at: None,
        finished_at: None,
        trust: Some(Trust::Once),
        grant_id: None,
        trusted: false,
        decided_by: Some("cli".into()),
        result: None,
        error: None,
        notified_at: None,
    }
}
