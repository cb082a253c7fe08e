//! The guard of one sandbox, seen from the gateway.

use super::nursery::Nursery;
use super::slots::Slot;
use super::{cgroups, mend};
use crate::SandboxError;
use crate::wire::{CgroupPlan, FromStage0, Packet, Setup, Terms, receive, send};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// Longest that building a sandbox may take; it takes milliseconds.
const BUILD_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that a guard may take to leave after its socket closed, before it is killed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how long apart, removal of a control group is tried after a guard was killed.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// What a ready sandbox hands out.
pub(super) struct Made {
    pub(super) ready: FromStage0,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) reveal: OwnedFd,
}

/// A guard that runs. Dropping it ends everything inside, and waits for that elsewhere.
pub(super) struct Helper {
    inner: Option<Inner>,
}

struct Inner {
    control: AsyncFd<OwnedFd>,
    /// The guard, and process 1 inside; known when the sandbox is ready.
    processes: Option<(OwnedFd, AsyncFd<OwnedFd>)>,
    cgroup: Option<CgroupPlan>,
    /// Free when everything is gone.
    _slot: Slot,
}

impl Helper {
    /// Asks for a guard and waits until it has made the sandbox.
    pub(super) async fn start(nursery: &Nursery, setup: &Setup, slot: Slot) -> Result<(Self, Made), SandboxError> {
        let (mut helper, stdout, stderr) =
            Self::spawn(nursery, setup, slot).map_err(|errno| SandboxError::Helper(errno.to_string()))?;
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
                let guard = fds.next().ok_or_else(gone)?;
                let tree = fds.next().and_then(|pidfd| watch(pidfd).ok()).ok_or_else(gone)?;
                if let Some(inner) = &mut helper.inner {
                    inner.processes = Some((guard, tree));
                }
                let reveal = fds.next_back().ok_or_else(gone)?;
                Ok((helper, Made { ready, listeners: fds.collect(), stdout, stderr, reveal }))
            }
        }
    }

    fn spawn(nursery: &Nursery, setup: &Setup, slot: Slot) -> Result<(Self, OwnedFd, OwnedFd), Errno> {
        let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC)?;
        send(&control, setup, &[])?;
        rustix::io::ioctl_fionbio(&control, true)?;
        let control = watch(control).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        nursery.ask(&theirs, &stdout_in, &stderr_in)?;
        let inner = Inner { control, processes: None, cgroup: setup.cgroup.clone(), _slot: slot };
        Ok((Self { inner: Some(inner) }, stdout, stderr))
    }

    async fn hear(&self) -> Result<Option<Packet>, Errno> {
        match &self.inner {
            Some(inner) => inner.hear().await,
            None => Ok(None),
        }
    }

    /// Whether the guard still waits: silent, and not gone.
    pub(super) fn is_alive(&self) -> bool {
        let Some(inner) = &self.inner else { return false };
        matches!(receive(inner.control.get_ref(), RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }

    /// Sends the job.
    pub(super) fn begin(&self, terms: &Terms, job: &OwnedFd) -> Result<(), SandboxError> {
        let inner = self.inner.as_ref().ok_or_else(ended)?;
        send(inner.control.get_ref(), terms, &[job.as_fd()]).map_err(|_| ended())
    }

    /// Waits for the end of what [`Helper::begin`] began.
    pub(super) async fn end(&self) -> Result<FromStage0, SandboxError> {
        let gone = ended;
        let inner = self.inner.as_ref().ok_or_else(gone)?;
        let packet = inner.hear().await.map_err(|_| gone())?.ok_or_else(gone)?;
        packet.parse().map_err(|_| gone())
    }

    /// Lets the guard go and waits until everything has gone.
    pub(super) async fn leave(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.leave().await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // The end begins at once; only waiting for it is left to somebody else.
        let _ = shutdown(inner.control.get_ref(), Shutdown::Write);
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(inner.leave());
        }
    }
}

impl Inner {
    /// The next packet; `None` when the guard is gone.
    async fn hear(&self) -> Result<Option<Packet>, Errno> {
        loop {
            let mut ready = self.control.readable().await.map_err(|_| Errno::IO)?;
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

    /// Waits until guard and tree are gone, kills what does not go by itself, and clears up.
    async fn leave(self) {
        let _ = shutdown(self.control.get_ref(), Shutdown::Write);
        let silent = async { while let Ok(Some(_)) = self.hear().await {} };
        let left = timeout(LEAVE_TIMEOUT, silent).await.is_ok();
        if let Some((guard, tree)) = &self.processes {
            if !left {
                tracing::warn!("the guard of a sandbox did not leave and is killed");
                let _ = pidfd_send_signal(guard, Signal::KILL);
            }
            // A guard that was killed could not wait for the tree, which dies with it, a moment later.
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

fn ended() -> SandboxError {
    SandboxError::Helper("it ended during the run".to_owned())
}

/// Watches a descriptor for being readable.
#[allow(unsafe_code, reason = "tokio asks for a promise that an owned descriptor keeps by itself")]
fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same descriptor, until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}
