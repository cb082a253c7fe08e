//! The native backend: one sandbox per run, made of namespaces by a clean helper process.

mod cgroups;
mod helper;
mod lane;
mod mend;
mod nursery;
mod probe;
mod runtimes;
mod slots;
mod spare;

pub use probe::{ProbeLine, probe};

use crate::SandboxError;
use crate::wire::{Bind, CgroupPlan, Setup, Terms};
pub(crate) use cgroups::{Base, discover as discover_cgroups, remove as remove_cgroup};
use helper::{Helper, Made};
use lane::{NativeLane, Task};
pub(crate) use lane::{exit_of, not_started, seal};
pub(crate) use mend::explain;
use nursery::Nursery;
use oauth3_core::{Fault, Host, Lane, LaneSpec, Runner, Runtime, synthetic_addresses};
pub(crate) use runtimes::{Installed, Plan, Surroundings, environment, environment_in, files, find_all, plan, version};
pub(crate) use slots::{Slot, Slots};
use spare::{Refill, Spare};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the proxy listens on 127.0.0.1 inside, unless an allowed host has that port.
const PROXY_PORT: u16 = 3128;
/// The port that is always intercepted.
const HTTPS_PORT: u16 = 443;
/// Host ids that inside users are mapped to, as root: this one and the following. Below are the ranges that
/// distributions give to users' own containers (from 100000) and systemd gives to its (to 0x6fffffff); code in
/// those could otherwise send signals to ours.
pub(crate) const FIRST_HOST_UID: u32 = 0x7000_0000;

/// How to make sandboxes.
#[derive(Debug, Clone, Default)]
pub struct NativeConfig {
    /// The executable that calls [`crate::become_helper`] first; usually the gateway's own.
    pub helper: PathBuf,
    /// Where a runtime is; the others are searched. [`Runtime::Embedded`] needs none.
    pub runtimes: BTreeMap<Runtime, PathBuf>,
    /// Where to search, as in `PATH`.
    pub search: OsString,
    /// Whether one empty sandbox waits for the next run, from the first run on. Each is used once, like every other.
    pub spare: bool,
}

/// Makes sandboxes on this machine, without a daemon.
///
/// As root every sandbox has a host id of its own (0x70000000 and up); without, the caller's. There is no weaker
/// mode: when a namespace, a mount or the filter cannot be had, nothing runs.
#[derive(Debug, Clone)]
pub struct NativeRunner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nursery: Nursery,
    installed: BTreeMap<Runtime, Installed>,
    cgroups: Option<Base>,
    slots: Arc<Slots>,
    spare: Spare,
}

impl NativeRunner {
    /// Looks for runtimes and control groups, and removes what a killed gateway left behind.
    ///
    /// # Errors
    /// When the helper is not there, or a configured runtime is not a program.
    pub fn new(config: NativeConfig) -> Result<Self, SandboxError> {
        if !config.helper.exists() {
            return Err(SandboxError::Config(format!(
                "the sandbox helper {} does not exist; set it to the oauth3 executable",
                config.helper.display()
            )));
        }
        let installed = runtimes::find_all(&config.runtimes, &config.search)?;
        let cgroups = cgroups::discover();
        if let Some(base) = &cgroups {
            base.remove_leftovers();
        }
        let (nursery, slots, spare) = (Nursery::new(config.helper), Arc::default(), Spare::new(config.spare));
        Ok(Self { shared: Arc::new(Shared { nursery, installed, cgroups, slots, spare }) })
    }

    /// Makes a sandbox that will run a program of the host's system directories instead of a job's code: for
    /// measuring the sandbox itself. The job's code is not used.
    ///
    /// # Errors
    /// As [`Runner::prepare`].
    pub async fn prepare_program(&self, spec: LaneSpec, argv: Vec<String>) -> Result<Box<dyn Lane>, Fault> {
        Ok(Box::new(self.make(spec, Task::Program(argv)).await?))
    }

    async fn make(&self, spec: LaneSpec, task: Task) -> Result<NativeLane, SandboxError> {
        let shared = &self.shared;
        let installed = match (&task, spec.runtime) {
            (Task::Runtime, Runtime::Embedded) | (Task::Program(_) | Task::Nothing, _) => None,
            (Task::Runtime | Task::Version, runtime) => {
                Some(shared.installed.get(&runtime).ok_or(SandboxError::NoRuntime(runtime))?.clone())
            }
        };
        let ports = Ports::of(&spec);
        let engine = matches!(task, Task::Runtime) && spec.runtime == Runtime::Embedded;
        let made = match shared.spare.take(&ports).await {
            Some(spare) => spare,
            None => shared.build(&ports, engine).await?,
        };
        let terms = terms(&spec, installed.as_ref());
        let refill = Refill::new(shared, engine);
        Ok(NativeLane::new(spec, task, terms, ports.proxy, installed, made, refill))
    }
}

impl Shared {
    /// Makes a sandbox from nothing, with the embedded engine started in it or without.
    async fn build(&self, ports: &Ports, engine: bool) -> Result<(Helper, Made), SandboxError> {
        let slot = self.slots.take().ok_or(SandboxError::Full)?;
        let root = rustix::process::geteuid().is_root();
        let host_uid = root.then(|| FIRST_HOST_UID + slot.number());
        let binds = self.installed.values().filter_map(|found| found.bind.clone()).collect();
        let cgroup = self.cgroups.as_ref().map(Base::next);
        let setup = Setup { engine, ..ports.setup(host_uid, cgroup, binds) };
        Helper::start(&self.nursery, &setup, slot).await
    }
}

/// The ports that a sandbox listens on: all that is made of a request before its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports {
    tls: BTreeSet<u16>,
    pub(crate) proxy: u16,
}

impl Ports {
    pub(crate) fn of(spec: &LaneSpec) -> Self {
        let tls: BTreeSet<u16> = spec.hosts.iter().map(Host::port).chain([HTTPS_PORT]).collect();
        let proxy = (PROXY_PORT..u16::MAX).find(|port| !tls.contains(port)).unwrap_or(PROXY_PORT);
        Self { tls, proxy }
    }

    pub(crate) fn setup(&self, host_uid: Option<u32>, cgroup: Option<CgroupPlan>, binds: Vec<Bind>) -> Setup {
        let tls_ports = self.tls.iter().copied().collect();
        Setup { host_uid, tls_ports, proxy_port: self.proxy, cgroup, binds, engine: false }
    }

    /// What nearly every request needs.
    fn usual() -> Self {
        Self { tls: BTreeSet::from([HTTPS_PORT]), proxy: PROXY_PORT }
    }
}

/// What one run gets.
pub(crate) fn terms(spec: &LaneSpec, installed: Option<&Installed>) -> Terms {
    let memory_bytes = spec.limits.memory_mb.saturating_mul(1 << 20);
    Terms {
        hosts_file: hosts_file(&spec.hosts),
        timeout_ms: spec.limits.timeout_ms,
        cpu_ms: spec.limits.cpu_ms,
        file_bytes: spec.limits.file_mb.saturating_mul(1 << 20),
        open_files: spec.limits.open_files,
        memory_bytes,
        processes: spec.limits.processes,
        data_bytes: memory_bytes.saturating_add(runtimes::reserved_bytes(spec.runtime)),
        show: installed.and_then(|found| found.bind.as_ref()).map(|bind| bind.target.clone()),
    }
}

/// The text of `/etc/hosts`: every allowed name has the address that the egress knows it by.
fn hosts_file(hosts: &[Host]) -> String {
    let mut text = "127.0.0.1 localhost\n127.0.0.1 sandbox\n".to_owned();
    for (name, address) in synthetic_addresses(hosts) {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

#[async_trait::async_trait]
impl Runner for NativeRunner {
    fn executor(&self) -> &'static str {
        "native"
    }

    fn has(&self, runtime: Runtime) -> bool {
        runtime == Runtime::Embedded || self.shared.installed.contains_key(&runtime)
    }

    fn default_runtime(&self) -> Runtime {
        if self.has(Runtime::Deno) { Runtime::Deno } else { Runtime::Embedded }
    }

    async fn prepare(&self, spec: LaneSpec) -> Result<Box<dyn Lane>, Fault> {
        Ok(Box::new(self.make(spec, Task::Runtime).await?))
    }
}

/// A path as text; paths that are not UTF-8 cannot be used for runtimes.
fn text(path: &Path) -> Result<String, SandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| SandboxError::Config("a runtime's path is not UTF-8".to_owned()))
}
