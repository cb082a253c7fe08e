//! The keeper's life from start to end.

use crate::KeeperError;
use crate::audit::{ACTOR, Audit};
use crate::backing::Counter;
use crate::handler::{Desk, OwnerDesk, Served};
use crate::harden::harden;
use crate::open::Opener;
use crate::owner_socket::OwnerSocket;
use crate::runs::Runs;
use crate::secrets::Secrets;
use crate::shards::Shards;
use crate::sign_in::SignIns;
use oauth3_core::{AuditEvent, AuditKind, Clock, Store};
use oauth3_dial::{DialConfig, Dialer};
use oauth3_provider::Identities;
use oauth3_proxy::{Proxy, ProxyConfig};
use oauth3_store::SqliteStore;
use oauth3_vault::{KeySource, Vault};
use oauth3_wire::{Role, serve};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// What a keeper works with.
pub struct KeeperConfig {
    /// The data directory, which nobody else may write to.
    pub data_dir: PathBuf,
    /// The database; the same file that the gateway has open.
    pub db_path: PathBuf,
    /// The file that remembers where the audit chain ends.
    pub audit_head: PathBuf,
    /// Where the master key comes from.
    pub key_source: KeySource,
    /// How hosts are reached.
    pub dial: DialConfig,
    /// The keeper's end of the socket pair that its gateway made. When the other end closes, the keeper ends.
    pub gateway: OwnedFd,
    /// Where the owner's command line finds the keeper; `None` for a keeper that serves one command only.
    pub owner_socket: Option<PathBuf>,
    /// The API proxy; `None` for a keeper that serves one command only.
    pub proxy: Option<ProxySetup>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Threads that serve agents and runs; 0: those of the runtime that the keeper is called in.
    pub threads: usize,
}

/// The API proxy, and where agents reach it.
pub struct ProxySetup {
    /// The address to listen at.
    pub listen: SocketAddr,
    /// Whether the keeper goes on without a proxy when something else is at that address.
    pub may_be_taken: bool,
    /// The rest.
    pub config: ProxyConfig,
}

/// Makes the master key, or a passphrase's parameters. The key never leaves this call.
///
/// # Errors
/// When there is one already, or it cannot be written.
pub fn create_key(source: &KeySource) -> Result<(), KeeperError> {
    Ok(source.create()?)
}

/// Is the keeper: hardens the process, opens the store, unlocks the vault, serves the gateway until it hangs up,
/// closes what still runs, and returns.
///
/// # Errors
/// When one of the steps before the serving fails; then nothing was served.
pub async fn run(config: KeeperConfig) -> Result<(), KeeperError> {
    harden()?;
    check_data_dir(&config.data_dir)?;
    let sqlite = Arc::new(SqliteStore::open(&config.db_path, &config.audit_head).await?);
    let store: Arc<dyn Store> = sqlite.clone();
    let vault = Arc::new(unlock(config.key_source).await?);
    let dialer = Dialer::new(config.dial)?;
    let shards = Arc::new(Shards::start(config.threads).map_err(KeeperError::Threads)?);
    let gateway = gateway_socket(config.gateway).map_err(KeeperError::Gateway)?;
    let clock = config.clock;
    let audit = Arc::new(Audit::new(Arc::clone(&store), Arc::clone(&vault), Arc::clone(&clock)));
    let secrets = Secrets {
        store: Arc::clone(&store),
        vault: Arc::clone(&vault),
        audit: Arc::clone(&audit),
        clock: Arc::clone(&clock),
        turn: Mutex::new(()),
    };
    let sign_ins = SignIns::new(
        Arc::clone(&store),
        Arc::clone(&vault),
        Arc::clone(&audit),
        Arc::clone(&clock),
        dialer.clone(),
        Identities::embedded()?,
    );
    let proxy = match config.proxy {
        Some(setup) => {
            let counter = Counter {
                store: Arc::clone(&store),
                vault: Arc::clone(&vault),
                audit: Arc::clone(&audit),
                sign_ins: Arc::clone(&sign_ins),
                clock: Arc::clone(&clock),
            };
            listen(setup, counter, &dialer).await?
        }
        None => None,
    };
    let opener = Opener {
        store: Arc::clone(&store),
        vault,
        audit: Arc::clone(&audit),
        clock,
        dialer,
        sign_ins: Arc::clone(&sign_ins),
        runs: Runs::default(),
        shards: Arc::clone(&shards),
    };
    let (proxy, listener) = match proxy {
        Some((proxy, listener)) => {
            (Some(Served { address: listener.local_addr().map_err(KeeperError::Gateway)?, proxy }), Some(listener))
        }
        None => (None, None),
    };
    let desk =
        Arc::new(Desk { store, audit: Arc::clone(&audit), secrets, opener, sign_ins: Arc::clone(&sign_ins), proxy });

    // Ends with this function, however that ends.
    let mut owner = JoinSet::new();
    let mut agents = JoinSet::new();
    if let (Some(served), Some(listener)) = (&desk.proxy, listener) {
        agents.spawn(Arc::clone(&served.proxy).serve(listener, shards.all()));
    }
    if let Some(path) = config.owner_socket {
        let socket = OwnerSocket::bind(&path).await?;
        // A keeper for one command leaves no trace of its own: what the command does is recorded.
        audit.append(&[AuditEvent::new(AuditKind::Started, ACTOR)]).await?;
        sign_ins.resume().await?;
        owner.spawn(socket.serve(Arc::new(OwnerDesk(Arc::clone(&desk)))));
        // Beside what is served already. An error costs time at each commit, and is in the log.
        tokio::spawn(async move { sqlite.lay_out_wal().await });
    }
    tracing::info!("the keeper is ready");
    serve(gateway, Role::Gateway, desk.clone()).await;
    // The socket file goes with it.
    owner.shutdown().await;
    agents.shutdown().await;
    if let Some(served) = &desk.proxy {
        served.proxy.finish().await;
    }
    sign_ins.shutdown().await;
    desk.opener.runs.close_all().await;
    tracing::info!("the gateway is gone; the keeper ends");
    Ok(())
}

/// Makes the proxy and binds its address.
async fn listen(
    setup: ProxySetup,
    counter: Counter,
    dialer: &Dialer,
) -> Result<Option<(Arc<Proxy>, TcpListener)>, KeeperError> {
    let listener = match TcpListener::bind(setup.listen).await {
        Ok(listener) => listener,
        Err(error) if setup.may_be_taken && error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!(address = %setup.listen, "something else is at the proxy's address; there is no proxy");
            return Ok(None);
        }
        Err(source) => return Err(KeeperError::Proxy { address: setup.listen, source }),
    };
    let clock = Arc::clone(&counter.clock);
    let proxy = Proxy::start(setup.config, Arc::new(counter), clock, dialer).await?;
    Ok(Some((proxy, listener)))
}

/// Who can write there can put another database or socket in the place of ours.
fn check_data_dir(dir: &Path) -> Result<(), KeeperError> {
    let failed = |source| KeeperError::DataDir { path: dir.to_owned(), source };
    let meta = std::fs::metadata(dir).map_err(failed)?;
    if meta.mode() & 0o022 != 0 {
        return Err(KeeperError::OpenDataDir(dir.to_owned()));
    }
    Ok(())
}

/// Off the async threads: a passphrase takes a second of computing.
async fn unlock(source: KeySource) -> Result<Vault, KeeperError> {
    match tokio::task::spawn_blocking(move || Vault::open(&source)).await {
        Ok(vault) => Ok(vault?),
        Err(error) => Err(KeeperError::Gateway(std::io::Error::other(error))),
    }
}

fn gateway_socket(fd: OwnedFd) -> std::io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
