//! The direct backend: one locked-down process per run, for a machine that lets nobody make namespaces.
//!
//! The weakest of the three. What a run shares with everything else here, and what holds it nevertheless, is said
//! in `init::alone` and in SECURITY.md.

mod lane;
mod permissions;
mod probe;

pub use probe::probe_direct;

use crate::SandboxError;
use crate::init::{ALONE_SUBCOMMAND, LANDLOCK_WITH_TCP};
use crate::link::Link;
use crate::native::{Base, FIRST_HOST_UID, Installed, Slots, discover_cgroups, find_all, terms};
use crate::wire::{AloneSetup, Features, FromStage0, Setup};
use lane::{DirectLane, Directory, Guard};
use oauth3_core::{Fault, Lane, LaneFds, LaneSpec, ListenerFd, ListenerRole, ProxyKey, Runner, Runtime};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longest that a guard may take to answer; it takes milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Random bytes of a proxy's key.
const KEY_BYTES: usize = 16;

/// How to run without a sandbox of namespaces.
#[derive(Debug, Clone, Default)]
pub struct DirectConfig {
    /// The executable that calls [`crate::become_helper`] first; usually the gateway's own.
    pub helper: PathBuf,
    /// Where Deno is; empty to search.
    pub deno: Option<PathBuf>,
    /// Where to search, as in `PATH`.
    pub search: OsString,
    /// Where runs get a directory each, for their code and what they write; it must let other users through when
    /// oauth3 runs as root.
    pub directory: PathBuf,
}

/// Runs Deno and embedded code in a process that Landlock, a system call filter and the runtime itself hold.
#[derive(Debug, Clone)]
pub struct DirectRunner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    helper: PathBuf,
    deno: Option<Installed>,
    directory: PathBuf,
    cgroups: Option<Base>,
    slots: Arc<Slots>,
}

impl DirectRunner {
    /// Looks for Deno, and removes what a killed gateway left behind.
    ///
    /// # Errors
    /// When the kernel lacks what this backend stands on, or Deno is configured and not a program.
    pub fn new(config: DirectConfig) -> Result<Self, SandboxError> {
        let abi = crate::init::landlock_abi();
        if abi < LANDLOCK_WITH_TCP {
            return Err(mend("Landlock with TCP".to_owned(), Errno::NOSYS.raw_os_error()));
        }
        let configured = config.deno.map(|path| (Runtime::Deno, path)).into_iter().collect::<BTreeMap<_, _>>();
        let deno = find_all(&configured, &config.search)?.remove(&Runtime::Deno);
        let cgroups = discover_cgroups();
        if let Some(base) = &cgroups {
            base.remove_leftovers();
        }
        lane::remove_leftovers(&config.directory);
        let (helper, directory, slots) = (config.helper, config.directory, Arc::default());
        Ok(Self { shared: Arc::new(Shared { helper, deno, directory, cgroups, slots }) })
    }

    async fn make(&self, spec: LaneSpec) -> Result<(DirectLane, Features, String), SandboxError> {
        let shared = &self.shared;
        let deno = match spec.runtime {
            Runtime::Embedded => None,
            Runtime::Deno => Some(shared.deno.clone().ok_or(SandboxError::NoRuntime(Runtime::Deno))?),
            other => return Err(SandboxError::NoRuntime(other)),
        };
        let slot = shared.slots.take().ok_or(SandboxError::Full)?;
        let host = |what: &str, error: std::io::Error| SandboxError::Config(format!("{what} cannot be made: {error}"));
        let directory = Directory::make(&shared.directory).map_err(|error| host("the run's directory", error))?;
        let (listener, port) = listen().map_err(|error| host("the run's proxy", error))?;
        let key = new_key()?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| host("a pipe", errno.into()));
        let ((stdout, stdout_in), (stderr, stderr_in)) = (pipe()?, pipe()?);
        let cgroup = shared.cgroups.as_ref().map(Base::next);
        let root = rustix::process::geteuid().is_root();
        let host_uid = root.then(|| FIRST_HOST_UID + slot.number());
        let plain =
            Setup { host_uid, tls_ports: Vec::new(), proxy_port: port, cgroup, binds: Vec::new(), engine: false };
        let terms = terms(&spec, None);
        let guard = Guard::new(slot, plain.cgroup.clone(), directory);
        let (link, child) = self.start().map_err(|errno| SandboxError::Helper(errno.to_string()))?;
        let guard = guard.with(child);
        let alone = AloneSetup { setup: plain, directory: guard.directory()? };
        let gone = || SandboxError::Helper("it ended before it was ready".to_owned());
        link.tell(&alone, &[stdout_in.as_fd(), stderr_in.as_fd()]).map_err(|_| gone())?;
        drop((stdout_in, stderr_in));
        let heard = timeout(START_TIMEOUT, link.hear()).await.map_err(|_| gone())?;
        let packet = heard.ok().flatten().ok_or_else(gone)?;
        let (features, cgroup) = match packet.parse().map_err(|_| gone())? {
            FromStage0::Ready { features, cgroup, .. } => (features, cgroup),
            FromStage0::Failed { step, errno } => return Err(mend(step, errno)),
            FromStage0::Done { .. } => return Err(gone()),
        };
        let listeners = vec![ListenerFd { role: ListenerRole::KeyedProxy { key }, fd: listener }];
        let reveal = packet.fds.into_iter().next().ok_or_else(gone)?;
        let fds = Some(LaneFds { listeners, stdout, stderr, reveal });
        Ok((DirectLane { spec, terms, deno, port, key, link, guard, fds }, features, cgroup))
    }

    /// Starts a guard: no argument but the subcommand, no environment, nothing but the socket.
    #[allow(clippy::disallowed_methods, reason = "sandboxes are started here")]
    fn start(&self) -> Result<(Link, std::process::Child), Errno> {
        use std::os::unix::process::CommandExt;
        let (link, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let child = Command::new(&self.shared.helper)
            .arg(ALONE_SUBCOMMAND)
            .env_clear()
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok((Link::new(link)?, child))
    }
}

#[async_trait::async_trait]
impl Runner for DirectRunner {
    fn executor(&self) -> &'static str {
        "direct"
    }

    fn has(&self, runtime: Runtime) -> bool {
        match runtime {
            Runtime::Embedded => true,
            Runtime::Deno => self.shared.deno.is_some(),
            _ => false,
        }
    }

    fn default_runtime(&self) -> Runtime {
        if self.has(Runtime::Deno) { Runtime::Deno } else { Runtime::Embedded }
    }

    async fn prepare(&self, spec: LaneSpec) -> Result<Box<dyn Lane>, Fault> {
        let (lane, ..) = self.make(spec).await?;
        Ok(Box::new(lane))
    }
}

/// The proxy's socket, on the loopback that everybody here shares.
fn listen() -> std::io::Result<(OwnedFd, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener.into(), port))
}

fn new_key() -> Result<ProxyKey, SandboxError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| SandboxError::Config(format!("no random bytes: {error}")))?;
    Ok(ProxyKey::new(bytes))
}

/// What an owner can do about a step that failed.
fn mend(step: String, errno: i32) -> SandboxError {
    let mend = match step.as_str() {
        "Landlock with TCP" | "Landlock" => {
            "The direct executor needs Linux 6.7 or newer with lsm=landlock; else use native or docker"
        }
        "system call filter" => "Use a kernel with seccomp filters (CONFIG_SECCOMP_FILTER)",
        "leave every group"
        | "take the run's group"
        | "take the run's user"
        | "give the run its files"
        | "empty the capability bounding set" => {
            "Run oauth3 as an ordinary user, or as root with CAP_SETUID, CAP_SETGID, CAP_SETPCAP and CAP_CHOWN"
        }
        "enter the run's directory" => "Let other users through to the directory of runs",
        "start the runtime" => "Make Deno readable and executable for everybody",
        _ => "See `oauth3 doctor`",
    };
    let cause = std::io::Error::from(Errno::from_raw_os_error(errno)).to_string();
    SandboxError::Build { step, cause, mend: mend.to_owned() }
}
