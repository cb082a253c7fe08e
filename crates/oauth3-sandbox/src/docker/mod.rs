//! The Docker backend: one container per run, made by an engine on a Unix socket, with our own process 1 inside.
//!
//! The engine builds the walls and sees nothing else: code, environment and output go through a socket that is
//! bound into the container and opens once. See `init::guest` for the other side.

mod door;
mod engine;
mod lane;
mod probe;
mod reference;

pub use probe::probe_docker;

use crate::SandboxError;
use crate::init::GUEST_PROGRAMS as PROGRAMS;
use crate::link::Link;
use crate::native::{Installed, Ports, Slots, terms};
use crate::wire::{Features, FromStage0};
use door::Door;
use engine::{Engine, Plan};
use lane::{Container, DockerLane, Task};
use oauth3_core::{Fault, Lane, LaneFds, LaneSpec, Limits, ListenerFd, Runner, Runtime, synthetic_addresses};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longest that a container may take from its start until it speaks; it takes a fraction of a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile: one that ended says nothing.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Ids inside are this one and the following, one per container, so that no two share the kernel's counts per
/// user. Below 65536, which is all that a rootless engine has.
const FIRST_ID: u32 = 64_000;
/// What containers find as `/etc/resolv.conf` where the engine makes none, in the directory for sockets.
const RESOLVER: &str = "resolv.conf";
/// Random bytes in the name of a run's container and socket.
const RUN_BYTES: usize = 8;
/// Limits of a trial: 30 seconds, 512 MiB, 64 processes.
const TRIAL: Limits = Limits { timeout_ms: 30_000, memory_mb: 512, output_bytes: 4096, ..Limits::STANDARD };

/// How to make containers.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    /// Where the engine is, as in `DOCKER_HOST`: `unix:///path`; empty for the usual place.
    pub host: String,
    /// The image of every runtime that has none of its own, by digest; empty for none.
    pub image: String,
    /// Images of single runtimes, by digest.
    pub images: BTreeMap<Runtime, String>,
    /// Our own executable; bound into each container.
    pub helper: PathBuf,
    /// Where sockets are made: a directory of ours alone, which the engine's host has under the same path.
    pub directory: PathBuf,
    /// Whether the engine's host has the executable elsewhere: then a copy is put into the directory.
    pub copy_helper: bool,
    /// Processors that one run may use at once.
    pub cpus: f64,
}

/// Makes containers.
#[derive(Debug, Clone)]
pub struct DockerRunner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    config: DockerConfig,
    helper: PathBuf,
    home: String,
    images: BTreeMap<Runtime, String>,
    slots: Arc<Slots>,
}

impl DockerRunner {
    /// Reaches the engine, removes what a killed gateway left behind, and tries each image.
    ///
    /// # Errors
    /// When the configuration cannot work, the engine does not answer, or an image is missing or cannot run oauth3.
    pub async fn connect(config: DockerConfig) -> Result<Self, SandboxError> {
        let runner = Self::new(config).await?;
        let removed = runner.shared.engine.remove_leftovers(&runner.shared.home).await?;
        if removed > 0 {
            tracing::info!(removed, "removed containers that an earlier gateway left behind");
        }
        remove_sockets(&runner.shared.config.directory);
        runner.try_images().await
    }

    async fn new(config: DockerConfig) -> Result<Self, SandboxError> {
        let all = config.images.values().chain(Some(&config.image).filter(|image| !image.is_empty()));
        all.clone().try_for_each(|image| reference::check(image))?;
        if all.clone().next().is_none() {
            return Err(SandboxError::Config(
                "the docker executor needs an image: set [docker] image to one by its digest (name@sha256:…)".into(),
            ));
        }
        let engine = Engine::reach(&config.host).await?;
        for image in all {
            engine.check_image(image).await?;
        }
        let helper = lay_out(&config)?;
        let home = home_label(&config.directory);
        let mut images = config.images.clone();
        let any = images.values().next().cloned().unwrap_or_default();
        let embedded = if config.image.is_empty() { any } else { config.image.clone() };
        images.entry(Runtime::Embedded).or_insert(embedded);
        let slots = Arc::default();
        Ok(Self { shared: Arc::new(Shared { engine, config, helper, home, images, slots }) })
    }

    /// Starts a container of each image once: an image that cannot run oauth3 is told now, and which runtimes
    /// the common one has is found out.
    async fn try_images(self) -> Result<Self, SandboxError> {
        let mut images = self.shared.images.clone();
        for (&runtime, image) in &self.shared.images {
            let found = self.programs_of(image).await?;
            let named = self.shared.config.images.contains_key(&runtime);
            let program = PROGRAMS.iter().find(|(of, _)| *of == runtime).map(|(_, program)| *program);
            if named && program.is_some_and(|program| !found.iter().any(|name| name == program)) {
                return Err(SandboxError::Config(format!("the image {image} has no {runtime} on its PATH")));
            }
            if *image == self.shared.config.image {
                for (runtime, program) in PROGRAMS {
                    if found.iter().any(|name| name == program) {
                        images.entry(runtime).or_insert_with(|| image.clone());
                    }
                }
            }
        }
        let Shared { engine, config, helper, home, slots, .. } = &*self.shared;
        let (engine, config, helper) = (engine.clone(), config.clone(), helper.clone());
        let (home, slots) = (home.clone(), Arc::clone(slots));
        Ok(Self { shared: Arc::new(Shared { engine, config, helper, home, images, slots }) })
    }

    async fn programs_of(&self, image: &str) -> Result<Vec<String>, SandboxError> {
        let spec = LaneSpec { hosts: Vec::new(), limits: TRIAL, runtime: Runtime::Embedded };
        let (lane, features) = self.make(spec, Task::Runtime, image).await?;
        lane.container.check_limits().await?;
        drop(lane);
        Ok(features.programs)
    }

    async fn make(&self, spec: LaneSpec, task: Task, image: &str) -> Result<(DockerLane, Features), SandboxError> {
        let shared = &self.shared;
        let slot = shared.slots.take().ok_or(SandboxError::Full)?;
        let number = slot.number();
        let host = |errno: Errno| SandboxError::Config(format!("the container's socket cannot be made: {errno}"));
        let run = random_name()?;
        let door = Door::open(&shared.config.directory, &format!("{run}.sock")).map_err(host)?;
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC).map_err(host)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC).map_err(host)?;
        let (ports, terms) = (Ports::of(&spec), terms(&spec, None));
        let names = synthetic_addresses(&spec.hosts);
        let plan = Plan {
            run: &run,
            home: &shared.home,
            image,
            helper: &shared.helper,
            socket: &door.path,
            resolver: &shared.config.directory.join(RESOLVER),
            id: FIRST_ID + number,
            memory_bytes: terms.memory_bytes,
            processes: terms.processes,
            open_files: terms.open_files,
            cpus: shared.config.cpus,
            names: names.into_iter().map(|(name, address)| (name, address.to_string())).collect(),
        };
        let id = shared.engine.create(&plan).await?;
        let container = Container::new(shared.engine.clone(), id, slot);
        container.start().await?;
        let link = timeout(START_TIMEOUT, enter(&door, &container)).await.map_err(|_| silent())??;
        drop(door);
        link.tell(&ports.setup(None, None, Vec::new()), &[stdout_in.as_fd(), stderr_in.as_fd()])
            .map_err(|_| silent())?;
        drop((stdout_in, stderr_in));
        let heard = timeout(START_TIMEOUT, link.hear()).await.map_err(|_| silent())?;
        let packet = heard.ok().flatten().ok_or_else(silent)?;
        let (roles, features) = match packet.parse().map_err(|_| silent())? {
            FromStage0::Ready { roles, features, .. } => (roles, features),
            FromStage0::Failed { step, errno } => return Err(mend(step, errno)),
            FromStage0::Done { .. } => return Err(silent()),
        };
        let mut fds = packet.fds;
        let reveal = fds.pop().ok_or_else(silent)?;
        let listeners = roles.into_iter().zip(fds).map(|(role, fd)| ListenerFd { role, fd }).collect();
        let fds = Some(LaneFds { listeners, stdout, stderr, reveal });
        let installed = installed(spec.runtime);
        Ok((DockerLane { spec, terms, task, proxy_port: ports.proxy, installed, link, container, fds }, features))
    }

    fn image_of(&self, runtime: Runtime) -> Result<&str, SandboxError> {
        self.shared.images.get(&runtime).map(String::as_str).ok_or(SandboxError::NoRuntime(runtime))
    }
}

#[async_trait::async_trait]
impl Runner for DockerRunner {
    fn executor(&self) -> &'static str {
        "docker"
    }

    fn has(&self, runtime: Runtime) -> bool {
        self.shared.images.contains_key(&runtime)
    }

    fn default_runtime(&self) -> Runtime {
        if self.has(Runtime::Deno) { Runtime::Deno } else { Runtime::Embedded }
    }

    async fn prepare(&self, spec: LaneSpec) -> Result<Box<dyn Lane>, Fault> {
        let image = self.image_of(spec.runtime)?.to_owned();
        let (lane, _) = self.make(spec, Task::Runtime, &image).await?;
        Ok(Box::new(lane))
    }
}

/// Waits for the container's process 1. One that ended before it came tells nothing, so the container is looked at.
async fn enter(door: &Door, container: &Container) -> Result<Link, SandboxError> {
    loop {
        tokio::select! {
            link = door.admit() => return link.map_err(|errno| SandboxError::Helper(errno.to_string())),
            () = sleep(LOOK_PAUSE) => if !container.exists().await { return Err(silent()) },
        }
    }
}

fn silent() -> SandboxError {
    SandboxError::Engine {
        what: "the container ended before it was ready".to_owned(),
        cause: "oauth3 itself could not run in the image".to_owned(),
        mend: "Use an image with a glibc as new as this machine's (based on a current Debian or Ubuntu), and see \
               `oauth3 doctor`"
            .to_owned(),
    }
}

/// What an owner can do about a step that failed inside.
fn mend(step: String, errno: i32) -> SandboxError {
    let mend = match step.as_str() {
        "find the runtime in the image" | "start the runtime" => "Use an image that has the runtime on its PATH",
        step if step.starts_with("listen on port") || step.contains("socket") => "Use Docker 20.10 or newer",
        _ => "See `oauth3 doctor`",
    };
    let cause = std::io::Error::from(Errno::from_raw_os_error(errno)).to_string();
    SandboxError::Build { step, cause, mend: mend.to_owned() }
}

fn installed(runtime: Runtime) -> Option<Installed> {
    let (_, program) = PROGRAMS.iter().find(|(of, _)| *of == runtime)?;
    Some(Installed { runtime, program: (*program).to_owned(), host_path: PathBuf::new(), bind: None })
}

/// Makes the directory for sockets, for us alone, and the copy of our executable when one is wanted. The
/// executable as the engine's host sees it.
fn lay_out(config: &DockerConfig) -> Result<PathBuf, SandboxError> {
    let refuse = |error: std::io::Error| {
        SandboxError::Config(format!("{} cannot be used for sockets: {error}", config.directory.display()))
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.directory).map_err(refuse)?;
    fs::set_permissions(&config.directory, fs::Permissions::from_mode(0o700)).map_err(refuse)?;
    // Another user reads it inside; out here, the directory lets nobody in.
    let resolver = config.directory.join(RESOLVER);
    fs::write(&resolver, engine::resolver()).map_err(refuse)?;
    fs::set_permissions(&resolver, fs::Permissions::from_mode(0o644)).map_err(refuse)?;
    if !config.copy_helper {
        return Ok(config.helper.clone());
    }
    let (copy, begun) = (config.directory.join("oauth3-init"), config.directory.join("oauth3-init.new"));
    let copied = fs::copy(&config.helper, &begun)
        .and_then(|_| fs::set_permissions(&begun, fs::Permissions::from_mode(0o555)))
        .and_then(|()| fs::rename(&begun, &copy));
    copied.map_err(refuse)?;
    Ok(copy)
}

/// Sockets of runs that nobody waits for any more.
fn remove_sockets(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sock") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Which gateway a container belongs to, without telling the engine where its data is.
fn home_label(directory: &Path) -> String {
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    digest.iter().take(RUN_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn random_name() -> Result<String, SandboxError> {
    let mut bytes = [0; RUN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| SandboxError::Config(format!("no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
