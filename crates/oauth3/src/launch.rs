//! Starts the keeper process and keeps it there.

use crate::settings::Settings;
use crate::wiring;
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use oauth3_broker::Broker;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, Fault, Keeper, KeeperEvent, LaneFds, NewSecret, OpenedRun, RequestId,
    RunOutput, SignInOrder, SignInRecord, WriteOnly,
};
use oauth3_wire::GatewaySide;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest time that a keeper may take to unlock its vault and answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Starts in a row that may fail before `serve` gives up.
const MAX_FAILED_STARTS: u32 = 3;
/// Longest time that it may take when the owner types the passphrase first.
const TYPING_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause before a keeper that died is started again; twice as long after each one that died young, up to the longest.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_RESTART_PAUSE: Duration = Duration::from_secs(10);
/// Longest time that a keeper may take to wind down.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Age at which a keeper does not count as one that died young.
const STEADY_AGE: Duration = Duration::from_secs(30);

/// Variables that the keeper is given; it shares nothing else of our environment.
const KEEPER_VARIABLES: &[&str] = &[
    "HOME",
    "XDG_DATA_HOME",
    "PATH",
    "LANG",
    "DB_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OAUTH3_HOME",
    "OAUTH3_LOG",
    "OAUTH3_PASSPHRASE",
    "OAUTH3_PASSPHRASE_FILE",
];
/// And those that begin so.
const KEEPER_VARIABLE_PREFIXES: &[&str] = &["OAUTH3_EGRESS_", "OAUTH3_PROXY_", "OAUTH3_LIMITS_", "OAUTH3_VAULT_"];

/// One keeper process and our side of its socket.
pub(crate) struct RunningKeeper {
    /// The calls.
    pub side: Arc<GatewaySide>,
    child: Child,
}

impl RunningKeeper {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it does not: its own last line on standard error says why.
    pub(crate) async fn start(settings: &Settings, owner_socket: bool) -> Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make the keeper's socket")?;
        ours.set_nonblocking(true)?;
        let mut command = keeper_command(settings, owner_socket)?;
        let mut child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the keeper process")?;
        drop(command);
        let side = Arc::new(GatewaySide::new(tokio::net::UnixStream::from_std(ours)?));
        let ready = async {
            tokio::select! {
                pong = side.ping() => pong.map_err(anyhow::Error::from),
                status = child.wait() => bail!("it ended: {}", status.map_or_else(|e| e.to_string(), |s| s.to_string())),
            }
        };
        let patience = if wiring::asks_for_passphrase(settings) { TYPING_TIMEOUT } else { START_TIMEOUT };
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(())) => Ok(Self { side, child }),
            Ok(Err(error)) => {
                // Its own last line says why; let it finish saying it.
                let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
                Err(error.context("the keeper did not start (its own message is above)"))
            }
            Err(_) => bail!("the keeper did not answer within {} s", patience.as_secs()),
        }
    }

    /// Hangs up, which ends it, and waits until it is gone; kills it when it lingers. Calls that are under way
    /// elsewhere keep the line open.
    pub(crate) async fn end(self) {
        let Self { side, mut child } = self;
        drop(side);
        let _ = tokio::time::timeout(END_TIMEOUT, child.wait()).await;
    }

    async fn ended(&mut self) {
        tokio::select! {
            _ = self.child.wait() => {}
            () = self.side.closed() => {
                // A keeper that hung up must not live on with the key.
                let _ = self.child.start_kill();
                let _ = self.child.wait().await;
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the keeper's launcher is one of the three places that start processes")]
fn keeper_command(settings: &Settings, owner_socket: bool) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find our own program file")?;
    let mut command = Command::new(program);
    command.arg("keeper").arg("--data-dir").arg(settings.home.dir());
    if let Some(file) = &settings.config_file {
        command.arg("--config").arg(file);
    }
    if owner_socket {
        command.arg("--owner-socket");
    }
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let keep = name.to_str().is_some_and(|n| {
            KEEPER_VARIABLES.contains(&n) || KEEPER_VARIABLE_PREFIXES.iter().any(|prefix| n.starts_with(prefix))
        });
        if keep {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// The keeper as the broker sees it: whichever process is there now. Between two, every call is refused.
pub(crate) struct SupervisedKeeper {
    settings: Settings,
    /// None once it was told to stop.
    current: RwLock<Option<Arc<GatewaySide>>>,
    process: tokio::sync::Mutex<Option<RunningKeeper>>,
}

impl SupervisedKeeper {
    /// Starts the first keeper.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(settings: Settings) -> Result<Arc<Self>> {
        let first = RunningKeeper::start(&settings, true).await?;
        Ok(Arc::new(Self {
            settings,
            current: RwLock::new(Some(first.side.clone())),
            process: tokio::sync::Mutex::new(Some(first)),
        }))
    }

    /// Watches the keeper and starts a new one when it dies; returns with the reason when that fails, or
    /// after `stop` turns true, with the keeper gone.
    pub(crate) async fn watch(&self, broker: Arc<Broker>, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut process = self.process.lock().await;
        let mut pause = RESTART_PAUSE;
        loop {
            let Some(running) = process.as_mut() else { bail!("there is no keeper") };
            let since = Instant::now();
            tokio::select! {
                () = running.ended() => {}
                () = told(&mut stop) => {
                    self.stand_in(None);
                    if let Some(running) = process.take() {
                        running.end().await;
                    }
                    return Ok(());
                }
            }
            tracing::error!("the keeper ended; what was running has failed; starting a new one");
            broker.keeper_lost().await;
            pause = if since.elapsed() < STEADY_AGE { pause } else { RESTART_PAUSE };
            let next = tokio::select! {
                next = self.start_again(pause) => next?,
                () = told(&mut stop) => return Ok(()),
            };
            pause = pause.saturating_mul(2).min(LONGEST_RESTART_PAUSE);
            self.stand_in(Some(next.side.clone()));
            // What changed after it had read everything, and before it could be told.
            if let Err(fault) = next.side.refresh().await {
                tracing::error!(%fault, "the new keeper did not take in what changed");
            }
            *process = Some(next);
            tracing::info!("a new keeper has taken over");
        }
    }

    async fn start_again(&self, mut pause: Duration) -> Result<RunningKeeper> {
        let mut failures = 0;
        loop {
            tokio::time::sleep(pause).await;
            match RunningKeeper::start(&self.settings, true).await {
                Ok(next) => return Ok(next),
                Err(error) => {
                    failures += 1;
                    tracing::error!("{error:#}");
                    if failures >= MAX_FAILED_STARTS {
                        return Err(error.context("the keeper ended and cannot be started again"));
                    }
                }
            }
            pause = pause.saturating_mul(2).min(LONGEST_RESTART_PAUSE);
        }
    }

    fn stand_in(&self, side: Option<Arc<GatewaySide>>) {
        if let Ok(mut current) = self.current.write() {
            *current = side;
        }
    }

    fn side(&self) -> Result<Arc<GatewaySide>, Fault> {
        self.current
            .read()
            .ok()
            .and_then(|side| side.clone())
            .ok_or_else(|| Fault::Unavailable("the keeper does not answer".into()))
    }
}

/// Returns when `stop` turns true, or nobody is left to turn it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[async_trait]
impl Keeper for SupervisedKeeper {
    async fn ping(&self) -> Result<(), Fault> {
        self.side()?.ping().await
    }
    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.side()?.audit(event).await
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.side()?.verify_audit().await
    }
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        self.side()?.put_secret(secret, value).await
    }
    async fn open_run(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        self.side()?.open_run(id, lane).await
    }
    async fn close_run(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        self.side()?.close_run(id, then).await
    }
    async fn refresh(&self) -> Result<(), Fault> {
        self.side()?.refresh().await
    }
    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        self.side()?.next_event().await
    }
    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault> {
        self.side()?.proxy_address().await
    }
    async fn check_api(&self, api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        self.side()?.check_api(api).await
    }
    async fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        self.side()?.answer_ask(number, answer).await
    }
    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        self.side()?.order_sign_in(connection, order, by).await
    }
    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        self.side()?.put_client_secret(connection, value, by).await
    }
}
