//! `wrap`: runs a program as an agent, in a network of its own that leads to the proxy and to the gateway.

use super::Outcome;
use super::agent_side::{self, Addresses};
use super::forward_side::ForwardAgent;
use crate::cli::WrapArgs;
use crate::settings::Settings;
use crate::wiring;
use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use oauth3_core::{AgentToken, Host};
use oauth3_dial::{DialError, Dialer, Protocols};
use oauth3_sandbox::{Enclosure, SandboxError, enclose, start_open};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{ErrorKind, IsTerminal as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use url::Url;

/// Where the proxy and the gateway are inside, on loopback.
const PROXY_PORT: u16 = 3738;
const GATEWAY_PORT: u16 = 3737;
/// Most connections of the program that go on at a time; more wait.
const MAX_CONNECTIONS: usize = 1024;
/// Signals that may wait to be passed on.
const SIGNALS: usize = 16;
/// Bytes of randomness in the name of the directory with the certificates.
const NAME_BYTES: usize = 8;
/// What shells end with when a program is not there, or cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// What shells add to the number of the signal that ended a program.
const SIGNALLED: i32 = 128;

/// Runs the program to its end.
pub(crate) async fn wrap(settings: &Settings, args: WrapArgs) -> Result<Outcome> {
    let addresses = Addresses::of(settings, args.url.as_ref(), args.proxy_url.as_ref())?;
    let agent = ForwardAgent::ask(settings, token(args.token_file.as_ref())?, &addresses).await?;
    let certificates = Directory::make()?;
    let files = agent.write(&certificates.0)?;
    let signals = signals()?;
    if args.variables_only {
        let started = start_open(args.command, agent.variables(settings, &addresses, &files)?);
        return match started {
            Ok(child) => to_its_end(child, signals).await,
            Err(error) => not_started(error),
        };
    }
    let inside = Addresses {
        gateway: format!("http://127.0.0.1:{GATEWAY_PORT}"),
        proxy: format!("http://127.0.0.1:{PROXY_PORT}"),
    };
    let home = settings.home.dir();
    let enclosure = Enclosure {
        helper: std::env::current_exe().context("cannot find our own program file")?,
        command: args.command,
        variables: agent.variables(settings, &inside, &files)?,
        ports: vec![PROXY_PORT, GATEWAY_PORT],
        // The key, the database and the owner's socket.
        hide: home.is_dir().then(|| home.to_path_buf()).into_iter().collect(),
    };
    let dialer = Dialer::new(wiring::dial(settings)?)?;
    let places = [Place::of(&addresses.proxy)?, Place::of(&addresses.gateway)?];
    let (child, listeners) = match enclose(enclosure).await {
        Ok(started) => started,
        Err(error) => return not_started(error),
    };
    // Ends with this function.
    let mut relays = JoinSet::new();
    for (listener, place) in listeners.into_iter().zip(places) {
        relays.spawn(relay(into_tokio(listener)?, place, dialer.clone()));
    }
    to_its_end(child, signals).await
}

/// The agent's token: from a file, or from the variables that are there for it.
fn token(file: Option<&PathBuf>) -> Result<AgentToken> {
    let named = std::env::var_os("OAUTH3_TOKEN_FILE").map(PathBuf::from);
    if let Some(file) = file.or(named.as_ref()) {
        return agent_side::token(Some(file));
    }
    let text = std::env::var("OAUTH3_TOKEN").map_err(|_| {
        anyhow::anyhow!("whose program is it? Give --token-file, or set OAUTH3_TOKEN_FILE or OAUTH3_TOKEN")
    })?;
    agent_side::parse(&text)
}

fn not_started(error: SandboxError) -> Result<Outcome> {
    let SandboxError::Start(cause) = &error else {
        anyhow::bail!("{error}. With --variables-only it runs all the same, and can go around the proxy");
    };
    eprintln!("oauth3: the program cannot be started: {cause}");
    Ok(Outcome::Of(if cause.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }))
}

/// The signals that are the program's, in the order in which they come.
///
/// Heard from before the program starts: one that comes early waits, and does not end us in the program's place.
fn signals() -> Result<mpsc::Receiver<Signal>> {
    let (send, came) = mpsc::channel(SIGNALS);
    // From a terminal the program gets these two itself.
    let typed = std::io::stdin().is_terminal();
    for (kind, number, passed) in [
        (SignalKind::interrupt(), Signal::INT, !typed),
        (SignalKind::quit(), Signal::QUIT, !typed),
        (SignalKind::terminate(), Signal::TERM, true),
        (SignalKind::hangup(), Signal::HUP, true),
        (SignalKind::user_defined1(), Signal::USR1, true),
        (SignalKind::user_defined2(), Signal::USR2, true),
    ] {
        let (mut signals, send) = (signal(kind)?, send.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if passed && send.send(number).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(came)
}

/// Passes signals on until the program ends; what it ended with.
async fn to_its_end(mut child: Child, mut signals: mpsc::Receiver<Signal>) -> Result<Outcome> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("the program has no id")?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(Outcome::Of(code_of(status?))),
            // It is not waited for yet, so that the number is its own.
            Some(number) = signals.recv() => drop(kill_process(pid, number)),
        }
    }
}

/// As shells say it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Where a relay leads.
#[derive(Clone)]
enum Place {
    Address(SocketAddr),
    Host { host: Host, secure: bool },
}

impl Place {
    fn of(address: &str) -> Result<Self> {
        let url = Url::parse(address).with_context(|| format!("{address} is no address"))?;
        let port = url.port_or_known_default().with_context(|| format!("{address} names no port"))?;
        let name = url.host_str().with_context(|| format!("{address} names no host"))?;
        let secure = url.scheme() == "https";
        match name.trim_matches(['[', ']']).parse() {
            Ok(ip) if !secure => Ok(Self::Address(SocketAddr::new(ip, port))),
            _ => Ok(Self::Host { host: Host::parse(&format!("{name}:{port}"))?, secure }),
        }
    }
}

/// Carries what comes in at a listener of the program's network to where it belongs.
async fn relay(listener: tokio::net::TcpListener, place: Place, dialer: Dialer) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(turn) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { return };
        let (place, dialer) = (place.clone(), dialer.clone());
        connections.spawn(async move {
            if let Err(error) = carry(stream, &place, &dialer).await {
                eprintln!("oauth3: the gateway cannot be reached: {error}");
            }
            drop(turn);
        });
    }
}

async fn carry(stream: TcpStream, place: &Place, dialer: &Dialer) -> Result<(), DialError> {
    match place {
        Place::Address(address) => both_ways(stream, dialer.connect_owners_address(*address).await?).await,
        Place::Host { host, secure: false } => both_ways(stream, dialer.connect_owners_plain(host).await?).await,
        Place::Host { host, secure: true } => {
            both_ways(stream, dialer.connect_owners_tls(host, Protocols::Http1).await?).await;
        }
    }
    Ok(())
}

async fn both_ways(mut inside: TcpStream, mut outside: impl AsyncRead + AsyncWrite + Unpin) {
    // Whoever hangs up ends it.
    let _ = copy_bidirectional(&mut inside, &mut outside).await;
}

fn into_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

/// A directory for certificates, gone with this.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self> {
        let mut name = [0; NAME_BYTES];
        getrandom::fill(&mut name).map_err(|_| anyhow::anyhow!("this system has no randomness to give"))?;
        let path = std::env::temp_dir().join(format!("oauth3-{}", HEXLOWER.encode(&name)));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let gone = |path: &Path| std::fs::remove_dir_all(path);
        // What cannot be removed is a certificate, which is no secret.
        let _ = gone(&self.0);
    }
}
