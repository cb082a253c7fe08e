//! One prepared container.

use super::engine::Engine;
use crate::SandboxError;
use crate::link::Link;
use crate::native::{Installed, Plan, Slot, environment, exit_of, files, not_started, plan, seal, version};
use crate::wire::{Launch, Terms};
use oauth3_core::{Exit, ExitReason, Fault, Job, Lane, LaneFds, LaneSpec, Runtime};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long after its own time a container may take to report, before it is ended from outside.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit code where the code has none: ended by SIGKILL, as a shell shows it.
const KILLED: i32 = 128 + 9;

/// What runs in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// The job's code.
    Runtime,
    /// The runtime, asked for its version.
    Version,
}

/// A container that exists. Dropping it ends everything inside; waiting for that is left to somebody else.
pub(super) struct Container {
    engine: Engine,
    /// Taken when somebody else sees to the removal.
    id: Option<String>,
    slot: Option<Slot>,
}

impl Container {
    pub(super) const fn new(engine: Engine, id: String, slot: Slot) -> Self {
        Self { engine, id: Some(id), slot: Some(slot) }
    }

    pub(super) async fn start(&self) -> Result<(), SandboxError> {
        match &self.id {
            Some(id) => self.engine.start(id).await,
            None => Ok(()),
        }
    }

    pub(super) async fn exists(&self) -> bool {
        match &self.id {
            Some(id) => self.engine.exists(id).await,
            None => false,
        }
    }

    pub(super) async fn check_limits(&self) -> Result<(), SandboxError> {
        match &self.id {
            Some(id) => self.engine.check_limits(id).await,
            None => Ok(()),
        }
    }

    /// Ends it and waits until it is gone.
    async fn remove(mut self) {
        if let Some(id) = &self.id
            && let Err(error) = self.engine.remove(id).await
        {
            tracing::warn!(%error, "a container could not be removed; the next start tries again");
        }
        self.id = None;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (Some(id), slot) = (self.id.take(), self.slot.take()) else { return };
        let engine = self.engine.clone();
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                if let Err(error) = engine.remove(&id).await {
                    tracing::warn!(%error, "a container could not be removed; the next start tries again");
                }
                drop(slot);
            });
        }
    }
}

/// A prepared sandbox of the Docker backend.
pub(super) struct DockerLane {
    pub(super) spec: LaneSpec,
    pub(super) terms: Terms,
    pub(super) task: Task,
    pub(super) proxy_port: u16,
    pub(super) installed: Option<Installed>,
    /// Before the container: the guest leaves by itself when it closes.
    pub(super) link: Link,
    pub(super) container: Container,
    pub(super) fds: Option<LaneFds>,
}

impl DockerLane {
    fn plan<'a>(&self, code: &'a [u8], layer: &'a [u8]) -> Result<Plan<'a>, SandboxError> {
        let installed = || self.installed.as_ref().ok_or(SandboxError::NoRuntime(self.spec.runtime));
        match (self.task, self.spec.runtime) {
            (Task::Version, _) => Ok(Plan::without_files(Launch::Exec { argv: version(installed()?) })),
            (Task::Runtime, Runtime::Embedded) => {
                let files = files(Runtime::Embedded, code)?;
                let memory_bytes = self.spec.limits.memory_mb.saturating_mul(1 << 20);
                let (proxy_port, entry) = (self.proxy_port, files.entry.clone());
                Ok(files.plan(Launch::Embedded { proxy_port, proxy_key: None, memory_bytes, entry }))
            }
            (Task::Runtime, _) => plan(installed()?, &self.spec, code, layer),
        }
    }

    async fn go(&self, job: &Job) -> Result<Exit, SandboxError> {
        let lost = || SandboxError::Helper("the container was ended from outside".to_owned());
        let file = seal(self.plan(&job.code, &job.layer)?, environment(&job.env, self.proxy_port)?, job)?;
        self.link.tell(&self.terms, &[file.as_fd()]).map_err(|_| lost())?;
        drop(file);
        let patience = self.spec.limits.timeout().saturating_add(REPORT_TIMEOUT);
        let Ok(heard) = tokio::time::timeout(patience, self.link.hear()).await else {
            tracing::warn!("a container did not end in time and is ended from outside");
            let duration = self.spec.limits.timeout();
            let reason = ExitReason::TimedOut;
            return Ok(Exit { code: KILLED, reason, duration, cpu_ms: None, memory_bytes: None, error: None });
        };
        let packet = heard.map_err(|_| lost())?.ok_or_else(lost)?;
        exit_of(packet.parse().map_err(|_| lost())?, super::mend)
    }
}

#[async_trait::async_trait]
impl Lane for DockerLane {
    fn take_fds(&mut self) -> Result<LaneFds, Fault> {
        self.fds.take().ok_or_else(|| Fault::Unavailable("the sandbox's sockets were taken before".to_owned()))
    }

    async fn run(self: Box<Self>, job: Job) -> Exit {
        let exit = self.go(&job).await.unwrap_or_else(|error| not_started(&error));
        let Self { link, container, .. } = *self;
        drop(link);
        container.remove().await;
        exit
    }
}
