//! The helper process of one sandbox, seen from the gateway.

use super::slots::Slot;
use super::{cgroups, mend};
use crate::SandboxError;
use crate::init::INIT_SUBCOMMAND;
use crate::wire::{CgroupPlan, FromStage0, Packet, Setup, receive, send, send_bytes};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// Longest that building a sandbox may take; it takes milliseconds.
const BUILD_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that a helper may take to leave after its socket closed, before it is killed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how long apart, removal of a control group is tried after a helper was killed.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// What goes with the job's descriptor.
const JOB: &[u8] = b"job";

/// What a ready sandbox hands out.
pub(super) struct Made {
    pub(super) ready: FromStage0,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A helper that runs. Dropping it closes its control socket, which ends everything inside, and then waits
/// for it elsewhere.
pub(super) struct Helper {
    control: Option<AsyncFd<OwnedFd>>,
    rest: Option<Rest>,
}

/// What is cleaned up when the helper has left.
struct Rest {
    child: Child,
    /// Process 1 inside.
    tree: Option<AsyncFd<OwnedFd>>,
    cgroup: Option<CgroupPlan>,
    _slot: Slot,
}

impl Helper {
    /// Starts the helper and waits until it has made the sandbox.
    pub(super) async fn start(program: &Path, setup: &Setup, slot: Slot) -> Result<(Self, Made), SandboxError> {
        let (mut helper, stdout, stderr) =
            Self::spawn(program, setup, slot).map_err(|errno| SandboxError::Helper(errno.to_string()))?;
        let answer = timeout(BUILD_TIMEOUT, helper.hear())
            .await
            .map_err(|_| SandboxError::Helper("it did not answer in time".to_owned()))?;
        let packet = answer.map_err(|errno| SandboxError::Helper(errno.to_string()))?;
        let gone = || SandboxError::Helper("it ended before the sandbox was built".to_owned());
        let packet = packet.ok_or_else(gone)?;
        match packet.parse().map_err(|_| gone())? {
            FromStage0::Failed { step, errno } => Err(mend::explain(step, errno)),
            FromStage0::Done { .. } => Err(gone()),
            ready @ FromStage0::Ready { .. } => {
                let mut fds = packet.fds.into_iter();
                let tree = fds.next().and_then(|pidfd| watch(pidfd).ok()).ok_or_else(gone)?;
                if let Some(rest) = &mut helper.rest {
                    rest.tree = Some(tree);
                }
                Ok((helper, Made { ready, listeners: fds.collect(), stdout, stderr }))
            }
        }
    }

    /// Starts the process: no argument but the subcommand, no environment, nothing but socket and pipes.
    #[allow(clippy::disallowed_methods, reason = "sandboxes are started here")]
    fn spawn(program: &Path, setup: &Setup, slot: Slot) -> Result<(Self, OwnedFd, OwnedFd), Errno> {
        let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC)?;
        send(&control, setup, &[])?;
        rustix::io::ioctl_fionbio(&control, true)?;
        let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let control = watch(control).map_err(io)?;
        let child = Command::new(program)
            .arg(INIT_SUBCOMMAND)
            .env_clear()
            .stdin(theirs)
            .stdout(stdout_in)
            .stderr(stderr_in)
            .process_group(0)
            .spawn()
            .map_err(io)?;
        let rest = Rest { child, tree: None, cgroup: setup.cgroup.clone(), _slot: slot };
        Ok((Self { control: Some(control), rest: Some(rest) }, stdout, stderr))
    }

    /// The next packet; `None` when the helper is gone.
    async fn hear(&self) -> Result<Option<Packet>, Errno> {
        let Some(control) = &self.control else { return Ok(None) };
        loop {
            let mut ready = control.readable().await.map_err(|_| Errno::IO)?;
            match ready.try_io(|fd| receive(fd.get_ref(), RecvFlags::empty()).map_err(Into::into)) {
                Ok(answer) => {
                    return match answer.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
                        Err(Errno::CONNRESET) => Ok(None),
                        other => other,
                    };
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Sends the job and waits for the end.
    pub(super) async fn run(&self, job: &OwnedFd) -> Result<FromStage0, SandboxError> {
        let gone = || SandboxError::Helper("it ended during the run".to_owned());
        let control = self.control.as_ref().ok_or_else(gone)?;
        send_bytes(control.get_ref(), JOB, &[job.as_fd()]).map_err(|_| gone())?;
        let packet = self.hear().await.map_err(|_| gone())?.ok_or_else(gone)?;
        packet.parse().map_err(|_| gone())
    }

    /// Lets the helper go and waits until it has.
    pub(super) async fn leave(mut self) {
        self.control.take();
        if let Some(rest) = self.rest.take() {
            rest.wait().await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.control.take();
        let Some(rest) = self.rest.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn(rest.wait())),
            Err(_) => drop(rest),
        }
    }
}

impl Rest {
    /// Waits until helper and tree are gone, kills what does not go by itself, and clears up.
    async fn wait(mut self) {
        if timeout(LEAVE_TIMEOUT, left(&self.child)).await.is_err() {
            tracing::warn!("a sandbox helper did not leave and is killed");
            let _ = self.child.kill();
            left(&self.child).await;
        }
        let _ = self.child.try_wait();
        // A helper that was killed could not wait for the tree, which dies with it, a moment later.
        if let Some(tree) = &self.tree {
            let _ = pidfd_send_signal(tree.get_ref(), Signal::KILL);
            let _ = tree.readable().await;
        }
        let Some(cgroup) = &self.cgroup else { return };
        for _ in 0..REMOVE_TRIES {
            if cgroups::remove(cgroup) {
                return;
            }
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
        tracing::warn!("a control group could not be removed; the next start tries again");
    }
}

/// Resolves when the process has ended.
async fn left(child: &Child) {
    let pidfd = Pid::from_raw(child.id().cast_signed())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .and_then(|pidfd| watch(pidfd).ok());
    if let Some(pidfd) = pidfd {
        let _ = pidfd.readable().await;
    }
}

/// Watches a descriptor for being readable.
#[allow(unsafe_code, reason = "tokio asks for a promise that an owned descriptor keeps by itself")]
fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same descriptor, until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}
