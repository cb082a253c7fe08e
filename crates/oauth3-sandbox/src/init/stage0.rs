//! The guard outside: makes the namespaces, holds the clock, ends the tree.
//!
//! It lives as long as the run does and goes when the control socket closes, so that nothing survives the
//! gateway. When it is killed itself, process 1 dies with it, and with that everything inside.
//!
//! The end of a run is told as soon as nothing of the code is left. Namespaces and the control group take the kernel
//! milliseconds more, for which nobody has to wait.

use super::cgroup::Group;
use super::child::{self, INSIDE_ID};
use super::sys::{self, Cloned, ending_signal};
use super::watch_cpu::CpuWatch;
use super::watch_memory::{self, INTERVAL};
use super::{Step, StepError};
use crate::wire::{End, Features, FromChild, FromStage0, Packet, SETTLED, Setup, Terms, receive, send, send_bytes};
use oauth3_core::ListenerRole;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What stage 0 says to the child when the ids are mapped.
const MAPPED: &[u8] = b"mapped";
/// The kernel's own out-of-memory choice falls on sandboxes first.
const OOM_SCORE: &str = "1000";

/// Runs stage 0 to its end.
pub(super) fn main(control: OwnedFd) -> ! {
    match receive(&control, RecvFlags::empty()).map(|packet| packet.map(|packet| packet.parse::<Setup>())) {
        Ok(Some(Ok(setup))) => serve(control, &setup),
        Ok(None) => {}
        _ => fail(&control, StepError { step: "read the set-up".to_owned(), errno: Errno::BADMSG }),
    }
    sys::exit_now(0)
}

fn fail(control: &OwnedFd, StepError { step, errno }: StepError) {
    let _ = send(control, &FromStage0::Failed { step, errno: errno.raw_os_error() }, &[]);
}

/// The tree inside, and what it takes to end it. Dropping ends it.
struct Tree {
    pid: Pid,
    pidfd: OwnedFd,
    group: Option<Group>,
    /// Moves process 1 into its group, where it could not be born there.
    attaching: Option<JoinHandle<Result<(), StepError>>>,
    ended: bool,
}

impl Tree {
    /// Begins to move process 1 into its group. The old hierarchy lets the mover wait for every processor, which
    /// is longer than all the rest takes; meanwhile the rest goes on. Process 1 hears when it is there.
    fn attach(&mut self, child: &OwnedFd) -> Result<(), StepError> {
        let Some(work) = self.group.as_ref().and_then(|group| group.attach(self.pid)) else {
            return send_bytes(child, SETTLED, &[]).step("settle the child");
        };
        let child = child.try_clone().step("socket to the child")?;
        let work = move || work().and_then(|()| send_bytes(child, SETTLED, &[]).step("settle the child"));
        let mover = std::thread::Builder::new().spawn(work).step("start the move into the cgroup")?;
        self.attaching = Some(mover);
        Ok(())
    }

    /// Returns when process 1 is in its group.
    fn attached(&mut self) -> Result<(), StepError> {
        let lost = Err(StepError { step: "move into the cgroup".to_owned(), errno: Errno::IO });
        self.attaching.take().map_or(Ok(()), |mover| mover.join().unwrap_or(lost))
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until process 1 is gone. The kernel lets it go only after every other process inside.
    fn wait(&mut self) {
        // While it is not waited for, its number is nobody else's.
        let _ = self.attached();
        while !self.ended {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                _ => self.ended = true,
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            self.wait();
        }
        if let Some(group) = &self.group {
            group.remove();
        }
    }
}

/// Who this process is after the clone.
enum Side {
    /// Process 1 inside, with its socket to the guard.
    Inside(OwnedFd),
    /// The guard, with its socket to process 1.
    Guard(OwnedFd, Tree),
}

/// Ends with the process, so that the control socket closes when nothing of it is left.
fn serve(control: OwnedFd, setup: &Setup) -> ! {
    match split(setup) {
        Ok(Side::Inside(guard)) => {
            // With a copy left here, nobody would see the guard go.
            drop(control);
            child::main(setup, &guard)
        }
        Ok(Side::Guard(child, mut tree)) => {
            let watched = release(&child, &mut tree, setup).and_then(|()| Watch::new(&control, &child).run(&mut tree));
            match watched {
                Ok(report) => drop(send(&control, &report, &[])),
                Err(error) => fail(&control, error),
            }
            // Process 1 and the group. The socket closes after them.
            drop(tree);
        }
        Err(error) => fail(&control, error),
    }
    sys::exit_now(0)
}

/// Makes the control group, the namespaces and process 1.
fn split(setup: &Setup) -> Result<Side, StepError> {
    let (child, inside) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .step("socket to the child")?;
    let group = setup.cgroup.as_ref().map(Group::create).transpose()?;
    match sys::clone_into_namespaces(group.as_ref().and_then(Group::birthplace)) {
        Ok(Cloned::Child) => Ok(Side::Inside(inside)),
        Ok(Cloned::Parent { pid, pidfd }) => {
            Ok(Side::Guard(child, Tree { pid, pidfd, group, attaching: None, ended: false }))
        }
        Err(errno) => {
            if let Some(group) = group {
                group.remove();
            }
            Err(errno).step("make namespaces")
        }
    }
}

/// Gives process 1 its ids and limits, and lets it go on.
fn release(child: &OwnedFd, tree: &mut Tree, setup: &Setup) -> Result<(), StepError> {
    map_ids(tree.pid, setup)?;
    send_bytes(child, MAPPED, &[]).step("wake the child")?;
    tree.attach(child)?;
    let _ = fs::write(format!("/proc/{}/oom_score_adj", tree.pid.as_raw_nonzero()), OOM_SCORE);
    child::let_go_of_pipes()
}

fn map_ids(pid: Pid, setup: &Setup) -> Result<(), StepError> {
    let pid = pid.as_raw_nonzero();
    let (uid, gid) = match setup.host_uid {
        Some(id) => (id, id),
        None => {
            fs::write(format!("/proc/{pid}/setgroups"), "deny").step("forbid group changes")?;
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        }
    };
    fs::write(format!("/proc/{pid}/uid_map"), format!("{INSIDE_ID} {uid} 1\n")).step("map the user id")?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("{INSIDE_ID} {gid} 1\n")).step("map the group id")
}

/// Carries messages between runner and child until the tree is gone.
struct Watch<'a> {
    control: &'a OwnedFd,
    child: &'a OwnedFd,
    /// Nothing before the job came.
    running: Option<Running>,
    failure: Option<StepError>,
    /// Wait status of the job and CPU time of the tree.
    status: Option<(i32, u64)>,
}

/// What the run gets, since when it runs, and what it used.
struct Running {
    terms: Terms,
    since: Instant,
    cpu: CpuWatch,
}

impl Running {
    /// What is left of the wall clock and of the CPU time.
    fn left(&mut self, tree: &Tree) -> (Duration, Duration) {
        let wall = Duration::from_millis(self.terms.timeout_ms).saturating_sub(self.since.elapsed());
        let used = self.cpu.look(tree.pid, tree.group.as_ref());
        (wall, Duration::from_millis(self.terms.cpu_ms).saturating_sub(used))
    }
}

impl<'a> Watch<'a> {
    const fn new(control: &'a OwnedFd, child: &'a OwnedFd) -> Self {
        Self { control, child, running: None, failure: None, status: None }
    }

    /// Returns what to report when nothing of the code is left: when process 1 says so, or when it is gone itself.
    fn run(mut self, tree: &mut Tree) -> Result<FromStage0, StepError> {
        // The limit that ended it, which is the first that was reached.
        let mut ended = None;
        let mut memory_bytes = None;
        let mut listen = (true, true);
        loop {
            let running = self.running.as_mut().filter(|_| ended.is_none());
            let left = running.map(|running| {
                let (wall, cpu) = running.left(tree);
                (wall, cpu, wall.min(running.cpu.pause(cpu)))
            });
            let watched = left.is_some() && tree.group.is_none();
            let pause = left.map(|(_, _, pause)| if watched { pause.min(INTERVAL) } else { pause });
            let ready = wait_ready(tree, self.control, self.child, listen, pause).step("wait")?;
            if ready.child {
                match receive(self.child, RecvFlags::DONTWAIT) {
                    Ok(Some(packet)) => self.hear_child(packet, tree)?,
                    Err(Errno::AGAIN) => {}
                    _ => listen.1 = false,
                }
            }
            if ready.tree || self.status.is_some() {
                break;
            }
            if ready.control {
                match receive(self.control, RecvFlags::DONTWAIT) {
                    Ok(Some(packet)) if self.running.is_none() => {
                        self.hand_over(&packet, tree)?;
                    }
                    Err(Errno::AGAIN) => {}
                    // The runner went away, or says more than it may.
                    _ => {
                        tree.kill();
                        listen.0 = false;
                    }
                }
            }
            if watched {
                memory_bytes = memory_bytes.max(Some(watch_memory::tree_bytes(tree.pid)));
            }
            ended = ended.or(match () {
                () if watched && memory_bytes > self.memory_limit() => Some(End::OutOfMemory),
                () if left.is_some_and(|(_, cpu, _)| cpu.is_zero()) => Some(End::OutOfCpu),
                () if left.is_some_and(|(wall, ..)| wall.is_zero()) => Some(End::TimedOut),
                () => None,
            });
            if ended.is_some() {
                tree.kill();
            }
        }
        if self.status.is_none() {
            tree.wait();
        }
        let duration = self.running.as_ref().map_or(Duration::ZERO, |running| running.since.elapsed());
        // The last words may still wait in the socket.
        while let Ok(Some(packet)) = receive(self.child, RecvFlags::DONTWAIT) {
            self.hear_child(packet, tree)?;
        }
        let oom = tree.group.as_ref().is_some_and(|group| group.oom_kills() > 0);
        let reported = self.status.map_or(0, |(_, cpu_ms)| cpu_ms);
        let counted = tree.group.as_ref().and_then(Group::cpu).unwrap_or(Duration::from_millis(reported));
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let used = self.running.as_mut().map_or(Duration::ZERO, |running| running.cpu.at_least(counted));
        let cpu_spent = self.running.as_ref().is_some_and(|running| used.as_millis() >= running.terms.cpu_ms.into());
        let end = self.judge(ended, oom, cpu_spent);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let cpu_ms = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
        let memory_bytes = memory_bytes.or_else(|| tree.group.as_ref()?.memory_peak());
        Ok(FromStage0::Done { end, duration_us, cpu_ms, memory_bytes })
    }

    /// Sets the limits, starts the clock and hands the job to process 1.
    fn hand_over(&mut self, packet: &Packet, tree: &mut Tree) -> Result<(), StepError> {
        let terms = packet.parse::<Terms>().step("read the run's terms")?;
        tree.attached()?;
        tree.group.as_ref().map_or(Ok(()), |group| group.limit(&terms))?;
        let cpu = CpuWatch::start(tree.pid, tree.group.as_ref());
        self.running = Some(Running { terms, since: Instant::now(), cpu });
        let fds: Vec<_> = packet.fds.iter().map(AsFd::as_fd).collect();
        send_bytes(self.child, &packet.bytes, &fds).step("hand over the job")
    }

    fn memory_limit(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.terms.memory_bytes)
    }

    fn hear_child(&mut self, packet: Packet, tree: &Tree) -> Result<(), StepError> {
        match packet.parse::<FromChild>().step("understand the child")? {
            FromChild::Built { roles, features } => self.announce(roles, features, &packet.fds, tree)?,
            FromChild::Failed { step, errno } => {
                self.failure = Some(StepError { step, errno: Errno::from_raw_os_error(errno) });
            }
            FromChild::Exited { status, cpu_ms } => self.status = Some((status, cpu_ms)),
        }
        Ok(())
    }

    fn announce(
        &self,
        roles: Vec<ListenerRole>,
        features: Features,
        listeners: &[OwnedFd],
        tree: &Tree,
    ) -> Result<(), StepError> {
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).step("name the guard")?;
        let fds: Vec<_> = [&own, &tree.pidfd].into_iter().chain(listeners).map(AsFd::as_fd).collect();
        let cgroup = tree.group.as_ref().map_or("none", Group::flavour).to_owned();
        send(self.control, &FromStage0::Ready { roles, features, cgroup }, &fds).step("report the network")
    }

    fn judge(&self, ended: Option<End>, oom: bool, cpu_spent: bool) -> End {
        if let Some(limit) = ended {
            return limit;
        }
        let signal = self.status.and_then(|(status, _)| ending_signal(status));
        match self.status {
            // The limit of one process was faster than the guard's look at all of them.
            Some(_) if signal == Some(libc::SIGXCPU) => End::OutOfCpu,
            Some((status, _)) if oom && status != 0 => End::OutOfMemory,
            Some(_) if signal == Some(libc::SIGKILL) && cpu_spent => End::OutOfCpu,
            Some((status, _)) => End::Status(status),
            None if oom => End::OutOfMemory,
            None => End::Lost,
        }
    }
}

struct Ready {
    tree: bool,
    control: bool,
    child: bool,
}

fn wait_ready(
    tree: &Tree,
    control: &OwnedFd,
    child: &OwnedFd,
    listen: (bool, bool),
    patience: Option<Duration>,
) -> Result<Ready, Errno> {
    let wanted = |on: bool| if on { PollFlags::IN } else { PollFlags::empty() };
    let mut fds = vec![PollFd::new(&tree.pidfd, PollFlags::IN)];
    // A side that is not listened to is left out: its hang-up would be reported for ever.
    let control_at = listen.0.then(|| {
        fds.push(PollFd::new(control, wanted(true)));
        fds.len() - 1
    });
    let child_at = listen.1.then(|| {
        fds.push(PollFd::new(child, wanted(true)));
        fds.len() - 1
    });
    let timeout = patience.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Err(Errno::INTR) | Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    let is_ready = |at: Option<usize>| at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready { tree: is_ready(Some(0)), control: is_ready(control_at), child: is_ready(child_at) })
}
