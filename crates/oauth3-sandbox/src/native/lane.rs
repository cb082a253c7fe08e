//! One prepared sandbox.

use super::helper::{Helper, Made};
use super::runtimes::{self, Installed, Plan};
use super::spare::Refill;
use crate::SandboxError;
use crate::init::shell_code;
use crate::wire::{End, Features, FromStage0, JobFile, JobHead, Launch, Terms, write_job};
use oauth3_core::{Exit, ExitReason, Fault, Job, Lane, LaneFds, LaneSpec, ListenerFd, Runtime};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long after its own time a guard may take to report, before the run counts as lost.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit code where the code has none: ended by SIGKILL, as a shell shows it.
const KILLED: i32 = 128 + 9;
/// Exit code where nothing was started.
const NOT_STARTED: i32 = 127;

/// What runs in the sandbox.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// The job's code.
    Runtime,
    /// The runtime, asked for its version.
    Version,
    /// This program.
    Program(Vec<String>),
    /// Nothing, after everything was built and locked.
    Nothing,
}

/// A prepared sandbox of the native backend.
pub(super) struct NativeLane {
    spec: LaneSpec,
    task: Task,
    terms: Terms,
    proxy_port: u16,
    installed: Option<Installed>,
    helper: Helper,
    fds: Option<LaneFds>,
    /// Makes the next sandbox in advance.
    refill: Refill,
    pub(super) features: Features,
    pub(super) cgroup: String,
}

impl NativeLane {
    pub(super) fn new(
        spec: LaneSpec,
        task: Task,
        terms: Terms,
        proxy_port: u16,
        installed: Option<Installed>,
        (helper, made): (Helper, Made),
        refill: Refill,
    ) -> Self {
        let Made { ready, listeners, stdout, stderr, reveal } = made;
        let (roles, features, cgroup) = match ready {
            FromStage0::Ready { roles, features, cgroup } => (roles, features, cgroup),
            _ => Default::default(),
        };
        let listeners = roles.into_iter().zip(listeners).map(|(role, fd)| ListenerFd { role, fd }).collect();
        let fds = Some(LaneFds { listeners, stdout, stderr, reveal });
        Self { spec, task, terms, proxy_port, installed, helper, fds, refill, features, cgroup }
    }

    fn plan<'a>(&self, code: &'a [u8], layer: &'a [u8]) -> Result<Plan<'a>, SandboxError> {
        let missing = || SandboxError::NoRuntime(self.spec.runtime);
        match &self.task {
            Task::Nothing => Ok(Plan::without_files(Launch::Nothing)),
            Task::Program(argv) => Ok(Plan::without_files(Launch::Exec { argv: argv.clone() })),
            Task::Version => {
                let argv = runtimes::version(self.installed.as_ref().ok_or_else(missing)?);
                Ok(Plan::without_files(Launch::Exec { argv }))
            }
            Task::Runtime if self.spec.runtime == Runtime::Embedded => {
                let files = runtimes::files(Runtime::Embedded, code)?;
                let memory_bytes = self.spec.limits.memory_mb.saturating_mul(1 << 20);
                let (proxy_port, entry) = (self.proxy_port, files.entry.clone());
                Ok(files.plan(Launch::Embedded { proxy_port, proxy_key: None, memory_bytes, entry }))
            }
            Task::Runtime => {
                let installed = self.installed.as_ref().ok_or_else(missing)?;
                runtimes::plan(installed, &self.spec, code, layer)
            }
        }
    }

    async fn go(&self, job: &Job) -> Result<Exit, SandboxError> {
        let plan = self.plan(&job.code, &job.layer)?;
        let env = runtimes::environment(&job.env, self.proxy_port)?;
        let file = seal(plan, env, job)?;
        let patience = self.spec.limits.timeout().saturating_add(REPORT_TIMEOUT);
        self.helper.begin(&self.terms, &file)?;
        let end = tokio::time::timeout(patience, self.helper.end())
            .await
            .map_err(|_| SandboxError::Helper("it did not report the end".to_owned()))??;
        exit_of(end, super::mend::explain)
    }
}

/// Puts a job into the file that it travels in.
pub(crate) fn seal(plan: Plan<'_>, env: Vec<(String, String)>, job: &Job) -> Result<OwnedFd, SandboxError> {
    let files = plan.files.iter().map(|(path, bytes)| JobFile { path: path.clone(), size: bytes.len() }).collect();
    let contents: Vec<&[u8]> = plan.files.iter().map(|(_, bytes)| bytes.as_ref()).collect();
    let head = JobHead {
        launch: plan.launch,
        files,
        directory: plan.directory,
        env,
        revealed: job.revealed.clone(),
        ca_pem: job.ca_pem.clone(),
    };
    write_job(&head, &contents).map_err(|errno| SandboxError::Config(format!("the job cannot be handed over: {errno}")))
}

/// The end of a run as the port tells it.
pub(crate) fn exit_of(heard: FromStage0, explain: impl Fn(String, i32) -> SandboxError) -> Result<Exit, SandboxError> {
    match heard {
        FromStage0::Done { end, duration_us, cpu_ms, memory_bytes } => {
            let (code, reason) = ending(end)?;
            let duration = Duration::from_micros(duration_us);
            Ok(Exit { code, reason, duration, cpu_ms: Some(cpu_ms), memory_bytes, error: None })
        }
        FromStage0::Failed { step, errno } => Err(explain(step, errno)),
        FromStage0::Ready { .. } => Err(SandboxError::Helper("it spoke out of turn".to_owned())),
    }
}

/// The end of a run that did not begin.
pub(crate) fn not_started(error: &SandboxError) -> Exit {
    tracing::warn!(%error, "a run was not started");
    let (reason, error) = (ExitReason::NotStarted, Some(error.to_string()));
    Exit { code: NOT_STARTED, reason, duration: Duration::ZERO, cpu_ms: None, memory_bytes: None, error }
}

fn ending(end: End) -> Result<(i32, ExitReason), SandboxError> {
    match end {
        End::Status(status) => Ok((shell_code(status), ExitReason::Exited)),
        End::TimedOut => Ok((KILLED, ExitReason::TimedOut)),
        End::OutOfCpu => Ok((KILLED, ExitReason::OutOfCpu)),
        End::OutOfMemory => Ok((KILLED, ExitReason::OutOfMemory)),
        End::Lost => Err(SandboxError::Helper("the sandbox was ended from outside".to_owned())),
    }
}

#[async_trait::async_trait]
impl Lane for NativeLane {
    fn take_fds(&mut self) -> Result<LaneFds, Fault> {
        self.fds.take().ok_or_else(|| Fault::Unavailable("the sandbox's sockets were taken before".to_owned()))
    }

    async fn run(self: Box<Self>, job: Job) -> Exit {
        let going = self.refill.while_it_runs();
        let ended = self.go(&job).await;
        drop(going);
        let Self { helper, refill, .. } = *self;
        match ended {
            // Nothing of the code is left. What is, our own process 1 and the kernel's things, goes by itself.
            Ok(exit) => {
                refill.after(helper.leave());
                exit
            }
            Err(error) => {
                helper.leave().await;
                refill.after(async {});
                not_started(&error)
            }
        }
    }
}
