//! The embedded engine's process, started before its job is there.
//!
//! It gives up every right as a job's process does, says so, makes the engine, and waits. Nothing of a request is
//! known to it, and it runs nothing but our own code, until process 1, under its own walls by then, hands it the one
//! job of this sandbox. A job for another runtime puts it aside.

use super::child::{fail, job_of};
use super::{Step, StepError, limits, lockdown, revealed, seccomp, sys};
use crate::embedded::{self, EmbeddedJob};
use crate::wire::{Terms, read_job, receive, send_bytes};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, kill_process, set_dumpable_behavior, waitpid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the engine's process says when nothing more can be taken from it.
const LOCKED: &[u8] = b"locked";

/// The process that waits, seen from process 1.
pub(super) struct Ahead {
    pid: Pid,
    link: OwnedFd,
}

impl Ahead {
    /// Forks it. Process 1 must be in its control group: what it makes is born there. `values` is where revealed
    /// values come from.
    pub(super) fn start(values: &OwnedFd, guard: &OwnedFd, bounded: bool) -> Result<Self, StepError> {
        let step = "start the engine's process";
        let (link, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).step(step)?;
        let own = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).step(step);
        let kept = [theirs, own(values)?, own(guard)?];
        match sys::fork().step(step)? {
            None => live(kept, bounded),
            Some(pid) => Ok(Self { pid, link }),
        }
    }

    /// Hands the job over, with the packet that it came in. `None` when the process is not there, or not locked: then
    /// it has not seen the job.
    pub(super) fn hand_over(self, terms: &[u8], job: BorrowedFd<'_>) -> Option<Pid> {
        let locked = receive(&self.link, RecvFlags::empty()).ok().flatten().filter(|packet| packet.bytes == LOCKED);
        if locked.is_some() && send_bytes(&self.link, terms, &[job]).is_ok() {
            return Some(self.pid);
        }
        self.put_aside();
        None
    }

    /// Ends it and waits for that.
    pub(super) fn put_aside(self) {
        let _ = kill_process(self.pid, Signal::KILL);
        while matches!(waitpid(Some(self.pid), WaitOptions::empty()), Err(Errno::INTR)) {}
    }
}

/// The life of the process.
fn live([link, values, guard]: [OwnedFd; 3], bounded: bool) -> ! {
    let locked = sys::close_all_but(&[link.as_fd(), values.as_fd(), guard.as_fd()])
        .step("close what was inherited")
        .and_then(|()| lock(bounded))
        .and_then(|()| send_bytes(&link, LOCKED, &[]).step("report"));
    if locked.is_err() {
        sys::exit_now(1);
    }
    sys::exit_now(embedded::run_when_told(move || take(link, values, guard, bounded)))
}

fn lock(bounded: bool) -> Result<(), StepError> {
    lockdown::drop_privileges()?;
    lockdown::restrict_files()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide the memory")?;
    sys::default_signals();
    seccomp::apply(bounded)
}

/// Waits for the job; `None` when there will be none. The job's limits hold before anything of it is read.
fn take(link: OwnedFd, values: OwnedFd, guard: OwnedFd, bounded: bool) -> Option<EmbeddedJob> {
    let packet = receive(&link, RecvFlags::empty()).ok().flatten()?;
    let taken = || -> Result<EmbeddedJob, StepError> {
        let terms = packet.parse::<Terms>().step("read the run's terms")?;
        limits::apply(&terms, bounded)?;
        let file = packet.fds.first().ok_or(Errno::BADMSG).step("take the job")?;
        let (job, contents) = read_job(file).step("read the job")?;
        rustix::process::chdir(&*job.directory).step("enter the working directory")?;
        let shown = revealed::take(&job.revealed, values)?;
        job_of(job, &contents, shown).ok_or(Errno::BADMSG).step("read the job")
    };
    match taken() {
        Ok(job) => Some(job),
        Err(error) => fail(error, &guard),
    }
}
