//! The native backend: one sandbox per run, made of namespaces by a clean helper process.

mod cgroups;
mod helper;
mod lane;
mod mend;
mod nursery;
mod probe;
mod runtimes;
mod slots;

pub use probe::{ProbeLine, probe};

use crate::SandboxError;
use crate::wire::{CgroupPlan, Setup};
use cgroups::Base;
use helper::Helper;
use lane::{NativeLane, Task};
use nursery::Nursery;
use oauth3_core::{Fault, Host, Lane, LaneSpec, Runner, Runtime, synthetic_addresses};
use runtimes::Installed;
use slots::Slots;
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
const FIRST_HOST_UID: u32 = 0x7000_0000;

/// How to make sandboxes.
#[derive(Debug, Clone, Default)]
pub struct NativeConfig {
    /// The executable that answers `sandbox-init` with [`crate::init_main`]; usually the gateway's own.
    pub helper: PathBuf,
    /// Where a runtime is; the others are searched. [`Runtime::Embedded`] needs none.
    pub runtimes: BTreeMap<Runtime, PathBuf>,
    /// Where to search, as in `PATH`.
    pub search: OsString,
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
        let slots = Arc::default();
        Ok(Self { shared: Arc::new(Shared { nursery: Nursery::new(config.helper), installed, cgroups, slots }) })
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
                Some(shared.installed.get(&runtime).ok_or(SandboxError::NoRuntime(runtime))?)
            }
        };
        let slot = shared.slots.take().ok_or(SandboxError::Full)?;
        let number = slot.number();
        let cgroup = shared.cgroups.as_ref().map(Base::next);
        let setup = setup(&spec, number, cgroup, installed);
        let (helper, ready) = Helper::start(&shared.nursery, &setup, slot).await?;
        Ok(NativeLane::new(spec, task, setup.proxy_port, installed.cloned(), helper, ready))
    }
}

/// Everything stage 0 needs.
fn setup(spec: &LaneSpec, slot: u32, cgroup: Option<CgroupPlan>, installed: Option<&Installed>) -> Setup {
    let tls_ports: BTreeSet<u16> = spec.hosts.iter().map(Host::port).chain([HTTPS_PORT]).collect();
    let proxy_port = (PROXY_PORT..u16::MAX).find(|port| !tls_ports.contains(port)).unwrap_or(PROXY_PORT);
    let memory_bytes = spec.limits.memory_mb.saturating_mul(1 << 20);
    let root = rustix::process::geteuid().is_root();
    Setup {
        host_uid: root.then(|| FIRST_HOST_UID + slot),
        tls_ports: tls_ports.into_iter().collect(),
        proxy_port,
        hosts_file: hosts_file(&spec.hosts),
        timeout_ms: spec.limits.timeout_ms,
        memory_bytes,
        processes: spec.limits.processes,
        data_bytes: memory_bytes.saturating_add(runtimes::reserved_bytes(spec.runtime)),
        cgroup,
        binds: installed.and_then(|found| found.bind.clone()).into_iter().collect(),
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
