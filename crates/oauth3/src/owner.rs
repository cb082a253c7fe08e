//! How a command reaches the owner's side: through a running gateway, or by itself when none runs.

use crate::launch::RunningKeeper;
use crate::settings::Settings;
use crate::wiring;
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use oauth3_api::OwnerClient;
use oauth3_broker::{Broker, Ports};
use oauth3_core::{Fault, Keeper, Lane, LaneSpec, OwnerPort, Runner, Runtime};
use oauth3_dial::{Dialer, HttpClient};
use oauth3_wire::GatewaySide;
use std::sync::Arc;

/// The owner's side, and what must live as long as it does.
pub struct Owner {
    port: Arc<dyn OwnerPort>,
    running: bool,
    _keeper: Option<RunningKeeper>,
}

impl Owner {
    /// A running gateway if there is one; else the store itself, with a keeper of our own.
    ///
    /// # Errors
    /// When `init` was not run, or the keeper does not start.
    pub async fn reach(settings: &Settings) -> Result<Self> {
        settings.home.require()?;
        if OwnerClient::is_running(&settings.home.owner_socket()).await {
            let keeper = keeper_socket(settings).await?;
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
    pub fn port(&self) -> &dyn OwnerPort {
        &*self.port
    }

    /// The owner's port of a running gateway: what needs things to run or somebody to be told.
    ///
    /// # Errors
    /// When no gateway runs.
    pub fn running(&self) -> Result<&dyn OwnerPort> {
        if !self.running {
            bail!("no gateway runs on this data directory; start it with `oauth3 serve`");
        }
        Ok(&*self.port)
    }
}

/// The keeper's own socket: values go in through it without passing the gateway.
async fn keeper_socket(settings: &Settings) -> Result<Arc<dyn Keeper>> {
    let path = settings.home.keeper_socket();
    let stream = tokio::net::UnixStream::connect(&path)
        .await
        .with_context(|| format!("cannot reach the keeper at {}; is `oauth3 serve` still starting?", path.display()))?;
    Ok(Arc::new(GatewaySide::new(stream)))
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
