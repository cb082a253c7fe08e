//! A yes to one call of the proxy, spent for a client that goes away meanwhile.

use crate::home::{NOW, Stopped, agent, approved};
use async_trait::async_trait;
use oauth3_core::{
    Access, AgentName, AgentToken, ApiId, AuditEvent, Budget, Execution, Fault, KeeperEvent, SecretName, Status, Store,
};
use oauth3_dial::{DialConfig, Dialer};
use oauth3_keeper::ProxyConfig;
use oauth3_provider::{Catalog, Prices};
use oauth3_proxy::{Backing, Lent, Proxy};
use oauth3_store::SqliteStore;
use oauth3_vault::SecretBytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A backing that spends a yes when the test lets it.
struct Slow {
    store: SqliteStore,
    begun: Semaphore,
    allowed: Semaphore,
}

#[async_trait]
impl Backing for Slow {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn lend(&self, secret: &SecretName) -> Result<Lent, Fault> {
        Err(Fault::NotFound(secret.to_string()))
    }

    fn authority_seed(&self, agent: &AgentName) -> Result<SecretBytes, Fault> {
        Err(Fault::NotFound(agent.to_string()))
    }

    async fn fresh(&self, token: &SecretName) -> Result<u32, Fault> {
        Err(Fault::NotFound(token.to_string()))
    }

    async fn renew(&self, token: &SecretName, _refused: u32) -> Result<Option<u32>, Fault> {
        Err(Fault::NotFound(token.to_string()))
    }

    async fn record(&self, _events: &[AuditEvent]) -> Result<(), Fault> {
        Ok(())
    }

    /// What was begun at the database is done there, also when nobody waits for it any more.
    async fn record_and_move(&self, _events: &[AuditEvent], next: &Execution, from: Status) -> Result<bool, Fault> {
        let moved = self.store.transition(next, from).await;
        self.begun.add_permits(1);
        self.allowed.acquire().await.unwrap().forget();
        moved
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_that_was_spent_for_a_client_that_is_gone_ends_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("oauth3.db"), &dir.path().join("audit.head")).await.unwrap();
    let token = AgentToken::random().unwrap();
    store.insert_agent(&agent(), &token.id(), &token.hash(), NOW).await.unwrap();
    let here = "[here]\ntitle = \"Here\"\nbase = \"http://localhost:9/v1\"\ncredential = \"none\"\ndialect = \"plain\"\ndocs = \"https://example.com\"\n";
    let mut execution = approved();
    let api = ApiId::provider("here").unwrap();
    let access = Access { api, models: Default::default(), rules: Default::default(), budget: Budget::default() };
    execution.intent.hosts = ["localhost:9".parse().unwrap()].into();
    execution.intent.secrets.clear();
    execution.intent.access = Some(access);
    execution.intent_digest = execution.intent.digest();
    store.insert_execution(&execution).await.unwrap();
    let config = ProxyConfig {
        catalog: Catalog::embedded().unwrap().overridden(here).unwrap(),
        prices: Prices::embedded().unwrap(),
        patience: PATIENCE,
        durable: true,
        forward_hosts: Vec::new(),
    };
    let slow = Arc::new(Slow { store, begun: Semaphore::new(0), allowed: Semaphore::new(0) });
    let dialer = Dialer::new(DialConfig::default()).unwrap();
    let proxy = Proxy::start(config, slow.clone(), Arc::new(Stopped), &dialer).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let serving = tokio::spawn(proxy.clone().serve(listener, vec![Handle::current()]));
    let head =
        format!("GET /v1/here/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", token.reveal());
    client.write_all(head.as_bytes()).await.unwrap();
    timeout(PATIENCE, slow.begun.acquire()).await.unwrap().unwrap().forget();
    // It hangs up, and the proxy has noticed when it does so too.
    client.shutdown().await.unwrap();
    timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    slow.allowed.add_permits(1);
    let event = timeout(PATIENCE, proxy.next_event()).await.expect("the gateway hears of it");
    let error = Some("the client went away before the API answered".to_owned());
    assert_eq!(event, Some(KeeperEvent::Used { id: execution.id, error }));
    serving.abort();
}
