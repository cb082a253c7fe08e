//! How a command reaches the owner's side: through a running gateway, or by itself when none runs.

use crate::launch::RunningKeeper;
use crate::settings::Settings;
use crate::wiring;
use anyhow::{Result, bail};
use async_trait::async_trait;
use oauth3_api::OwnerClient;
use oauth3_broker::{Broker, Ports};
use oauth3_core::{
    ApiId, AuditEvent, ChainReport, Fault, Keeper, Lane, LaneFds, LaneSpec, NewSecret, OpenedRun, OwnerPort, RequestId,
    RunOutput, Runner, Runtime, WriteOnly,
};
use oauth3_dial::{Dialer, HttpClient};
use oauth3_wire::GatewaySide;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Longest wait for the keeper of a gateway that runs, and the pause between two tries.
const KEEPER_PATIENCE: Duration = Duration::from_secs(10);
const KEEPER_PAUSE: Duration = Duration::from_millis(50);

/// The owner's side, and what must live as long as it does.
pub(crate) struct Owner {
    port: Arc<dyn OwnerPort>,
    running: bool,
    _keeper: Option<RunningKeeper>,
}

impl Owner {
    /// A running gateway if there is one; else the store itself, with a keeper of our own.
    ///
    /// # Errors
    /// When `init` was not run, or the keeper does not start.
    pub(crate) async fn reach(settings: &Settings) -> Result<Self> {
        settings.home.require()?;
        if OwnerClient::is_running(&settings.home.owner_socket()).await {
            let keeper = Arc::new(KeeperSocket { path: settings.home.keeper_socket() });
            let client = OwnerClient::new(settings.home.owner_socket(), keeper);
            return Ok(Self { port: Arc::new(client), running: true, _keeper: None });
        }
        let keeper = RunningKeeper::start(settings, false).await?;
        let ports = Ports {
            store: wiring::store(settings).await?,
            keeper: keeper.side.clone(),
            runner: Arc::new(NoRunner),
            http: Arc::new(HttpClient::new(Dialer::new(wiring::dial(settings)?)?)),
            clock: wiring::clock(),
        };
        let broker = Broker::new(wiring::broker(settings)?, ports);
        Ok(Self { port: broker, running: false, _keeper: Some(keeper) })
    }

    /// The owner's port, whichever it is.
    pub(crate) fn port(&self) -> &dyn OwnerPort {
        &*self.port
    }

    /// The owner's port of a running gateway: what needs things to run or somebody to be told.
    ///
    /// # Errors
    /// When no gateway runs.
    pub(crate) fn running(&self) -> Result<&dyn OwnerPort> {
        if !self.running {
            bail!("no gateway runs on this data directory; start it with `oauth3 serve`");
        }
        Ok(&*self.port)
    }
}

/// The keeper's own socket: values go in through it without passing the gateway.
struct KeeperSocket {
    path: PathBuf,
}

impl KeeperSocket {
    async fn connect(&self) -> Result<GatewaySide, Fault> {
        let deadline = Instant::now() + KEEPER_PATIENCE;
        loop {
            match UnixStream::connect(&self.path).await {
                Ok(stream) => return Ok(GatewaySide::new(stream)),
                // The gateway that we found may be starting its keeper just now.
                Err(_) if Instant::now() < deadline => tokio::time::sleep(KEEPER_PAUSE).await,
                Err(_) => break,
            }
        }
        let path = self.path.display();
        Err(Fault::Unavailable(format!("the keeper does not answer at {path}; look at the log of `oauth3 serve`")))
    }
}

#[async_trait]
impl Keeper for KeeperSocket {
    async fn ping(&self) -> Result<(), Fault> {
        self.connect().await?.ping().await
    }
    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.connect().await?.audit(event).await
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.connect().await?.verify_audit().await
    }
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        self.connect().await?.put_secret(secret, value).await
    }
    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        self.connect().await?.put_client_secret(connection, value, by).await
    }
    async fn open_run(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        self.connect().await?.open_run(id, lane).await
    }
    async fn close_run(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        self.connect().await?.close_run(id, then).await
    }
}

/// Without a gateway nothing runs.
struct NoRunner;

#[async_trait]
impl Runner for NoRunner {
    fn executor(&self) -> &'static str {
        "none"
    }
    fn has(&self, _runtime: Runtime) -> bool {
        false
    }
    fn default_runtime(&self) -> Runtime {
        Runtime::Embedded
    }
    async fn prepare(&self, _spec: LaneSpec) -> Result<Box<dyn Lane>, Fault> {
        Err(Fault::Unavailable("no gateway runs; start it with `oauth3 serve`".into()))
    }
}
