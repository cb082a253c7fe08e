//! Waits for the one process that runs a job, for whoever is its parent: process 1 of a container, or the guard
//! of a run without namespaces.

use super::cgroup::Group;
use super::sys::{self, ending_signal};
use super::watch_cpu::CpuWatch;
use crate::wire::{End, FromStage0};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often orphans are collected and bounds looked at.
const TICK: Duration = Duration::from_millis(50);

/// What ends the job from outside of it.
pub(super) struct Watch<'a> {
    /// The socket to the runner; it says nothing more, so any event on it means that the runner is gone.
    pub(super) link: &'a OwnedFd,
    /// Wall clock, and CPU time of the tree, in milliseconds.
    pub(super) timeout_ms: u64,
    pub(super) cpu_ms: u64,
    /// Counts, where this process made it.
    pub(super) group: Option<&'a Group>,
    /// Looks at bounds that the kernel does not hold: the end that it decides on, if it does.
    pub(super) over: &'a dyn Fn() -> Option<End>,
    /// Whether the memory limit ended something, asked after the end.
    pub(super) out_of_memory: &'a dyn Fn() -> bool,
    /// Ends every process of the run but the caller; gets the job's as long as its number is its own.
    pub(super) end_all: &'a dyn Fn(Option<Pid>),
}

impl Watch<'_> {
    /// Waits for the end, with nothing left. `None` when the runner went away first.
    pub(super) fn until_end(&self, job: Pid) -> Result<Option<FromStage0>, Errno> {
        let pidfd = pidfd_open(job, PidfdFlags::empty())?;
        let (started, limit) = (Instant::now(), Duration::from_millis(self.timeout_ms));
        let (mut cpu, most_cpu) = (CpuWatch::start(job, self.group), Duration::from_millis(self.cpu_ms));
        let (mut status, mut decided, mut alone) = (None, None, false);
        while status.is_none() {
            let left = limit.saturating_sub(started.elapsed());
            if decided.is_none() {
                decided = match () {
                    () if left.is_zero() => Some(End::TimedOut),
                    () if cpu.look(job, self.group) >= most_cpu => Some(End::OutOfCpu),
                    () => (self.over)(),
                };
                if decided.is_some() {
                    (self.end_all)(Some(job));
                }
            }
            let ended = pause(&pidfd, self.link, left.clamp(Duration::from_millis(1), TICK))?;
            if ended.link && !alone {
                alone = true;
                (self.end_all)(Some(job));
            }
            status = collect(job)?;
        }
        let duration = started.elapsed();
        (self.end_all)(None);
        while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD) | Ok(None)) {}
        if alone {
            return Ok(None);
        }
        let counted = self.group.and_then(Group::cpu).unwrap_or(Duration::from_millis(sys::children_cpu_ms()));
        let used = cpu.at_least(counted);
        let end = decided.unwrap_or_else(|| self.judge(status.unwrap_or_default(), used >= most_cpu));
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let cpu_ms = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
        let memory_bytes = self.group.and_then(Group::memory_peak);
        Ok(Some(FromStage0::Done { end, duration_us, cpu_ms, memory_bytes }))
    }

    fn judge(&self, status: i32, cpu_spent: bool) -> End {
        match ending_signal(status) {
            Some(libc::SIGXCPU) => End::OutOfCpu,
            _ if status != 0 && (self.out_of_memory)() => End::OutOfMemory,
            Some(libc::SIGKILL) if cpu_spent => End::OutOfCpu,
            _ => End::Status(status),
        }
    }
}

struct Ended {
    link: bool,
}

fn pause(job: &OwnedFd, link: &OwnedFd, patience: Duration) -> Result<Ended, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(job.as_fd(), PollFlags::IN), PollFd::new(link, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    match poll(&mut fds, Some(&timeout)) {
        Err(Errno::INTR) | Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    let [_, link] = &fds;
    Ok(Ended { link: !link.revents().is_empty() })
}

/// Collects whatever has ended; the wait status of the job when it is among that.
fn collect(job: Pid) -> Result<Option<i32>, Errno> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == job => return Ok(Some(status.as_raw())),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}
