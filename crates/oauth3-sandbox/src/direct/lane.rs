//! One prepared process, waiting for its job.

use super::permissions;
use crate::SandboxError;
use crate::init::{CERTIFICATE, TMP};
use crate::link::Link;
use crate::native::{
    Installed, Plan, Slot, Surroundings, environment_in, exit_of, files, not_started, remove_cgroup, seal,
};
use crate::wire::{CgroupPlan, Launch, Terms};
use oauth3_core::{Exit, Fault, Job, Lane, LaneFds, LaneSpec, ProxyKey, Runtime, SecretName};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long after its own time a guard may take to report, before the run counts as lost.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Directories of runs are called `oauth3-direct-<gateway's process id>-<number>`.
const PREFIX: &str = "oauth3-direct-";
/// How often, and how long apart, removal of a control group is tried.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// Numbers the directories of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A run's own directory. Gone when dropped.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes one for us alone; never one that is there already.
    pub(super) fn make(base: &Path) -> std::io::Result<Self> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = base.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The guard has removed it, when it could.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes directories of gateways that are gone.
pub(super) fn remove_leftovers(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What has to go after the run. It goes by itself once the link is closed; this waits for it.
pub(super) struct Guard {
    child: Option<Child>,
    cgroup: Option<CgroupPlan>,
    directory: Option<Directory>,
    slot: Option<Slot>,
}

impl Guard {
    pub(super) const fn new(slot: Slot, cgroup: Option<CgroupPlan>, directory: Directory) -> Self {
        Self { child: None, cgroup, directory: Some(directory), slot: Some(slot) }
    }

    pub(super) fn with(mut self, child: Child) -> Self {
        self.child = Some(child);
        self
    }

    /// The run's directory, as text.
    pub(super) fn directory(&self) -> Result<String, SandboxError> {
        let path = self.directory.as_ref().and_then(|directory| directory.0.to_str()).map(str::to_owned);
        path.ok_or_else(|| SandboxError::Config("the directory of runs is not UTF-8".to_owned()))
    }

    /// Waits in a thread of its own: nothing of a run is to hold up others.
    fn clear(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let mut child = self.child.take()?;
        let (cgroup, directory, slot) = (self.cgroup.take(), self.directory.take(), self.slot.take());
        Some(move || {
            let _ = child.wait();
            for _ in 0..REMOVE_TRIES {
                if cgroup.as_ref().is_none_or(remove_cgroup) {
                    break;
                }
                std::thread::sleep(REMOVE_PAUSE);
            }
            drop((directory, slot));
        })
    }

    async fn leave(mut self) {
        if let Some(clear) = self.clear() {
            let _ = tokio::task::spawn_blocking(clear).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(clear) = self.clear() {
            std::thread::spawn(clear);
        }
    }
}

/// A prepared run of the direct backend.
pub(super) struct DirectLane {
    pub(super) spec: LaneSpec,
    pub(super) terms: Terms,
    /// None for embedded code.
    pub(super) deno: Option<Installed>,
    pub(super) port: u16,
    pub(super) key: ProxyKey,
    /// Before the guard: it leaves when this closes.
    pub(super) link: Link,
    pub(super) guard: Guard,
    pub(super) fds: Option<LaneFds>,
}

impl DirectLane {
    fn directory(&self) -> Result<PathBuf, SandboxError> {
        self.guard.directory().map(PathBuf::from)
    }

    fn plan<'a>(&self, job: &'a Job) -> Result<Plan<'a>, SandboxError> {
        let directory = self.directory()?;
        let files = files(if self.deno.is_some() { Runtime::Deno } else { Runtime::Embedded }, &job.code)?;
        if files.packages.is_some() || !job.layer.is_empty() {
            let text = "the direct executor runs no code that imports packages; use native or docker for it";
            return Err(SandboxError::Config(text.to_owned()));
        }
        let launch = match &self.deno {
            Some(deno) => {
                let revealed = job.revealed.iter().map(SecretName::as_str);
                let names: Vec<&str> = job.env.iter().map(|(name, _)| name.as_str()).chain(revealed).collect();
                // The path here, not one inside of something.
                let program = text(&deno.host_path);
                Launch::Exec { argv: permissions::arguments(&program, &self.spec, &names, &directory, &files.entry) }
            }
            None => {
                let memory_bytes = self.spec.limits.memory_mb.saturating_mul(1 << 20);
                let entry = files.entry.clone();
                Launch::Embedded { proxy_port: self.port, proxy_key: Some(self.key), memory_bytes, entry }
            }
        };
        Ok(Plan { directory: text(&directory.join(TMP)), ..files.plan(launch) })
    }

    fn environment(&self, job: &Job) -> Result<Vec<(String, String)>, SandboxError> {
        let directory = self.directory()?;
        let surroundings = Surroundings {
            proxy: format!("http://{}@127.0.0.1:{}", self.key.user_info(), self.port),
            certificates: text(&directory.join(CERTIFICATE)),
            tmp: text(&directory.join(TMP)),
        };
        environment_in(&job.env, &surroundings)
    }

    async fn go(&self, job: &Job) -> Result<Exit, SandboxError> {
        let lost = || SandboxError::Helper("the guard was ended from outside".to_owned());
        let file = seal(self.plan(job)?, self.environment(job)?, job)?;
        self.link.tell(&self.terms, &[file.as_fd()]).map_err(|_| lost())?;
        drop(file);
        let patience = self.spec.limits.timeout().saturating_add(REPORT_TIMEOUT);
        let heard = tokio::time::timeout(patience, self.link.hear()).await.map_err(|_| lost())?;
        let packet = heard.map_err(|_| lost())?.ok_or_else(lost)?;
        exit_of(packet.parse().map_err(|_| lost())?, super::mend)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[async_trait::async_trait]
impl Lane for DirectLane {
    fn take_fds(&mut self) -> Result<LaneFds, Fault> {
        self.fds.take().ok_or_else(|| Fault::Unavailable("the run's sockets were taken before".to_owned()))
    }

    async fn run(self: Box<Self>, job: Job) -> Exit {
        let exit = self.go(&job).await.unwrap_or_else(|error| not_started(&error));
        let Self { link, guard, .. } = *self;
        drop(link);
        guard.leave().await;
        exit
    }
}
