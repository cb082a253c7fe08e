//! Process 1 inside, and the job's process.
//!
//! The order matters: network and listeners, then the file system, then wait for the job, then give up every
//! right, then start it. Process 1 stays as the parent of everything: it is not dumpable, so nothing inside
//! can read it, and when it ends the kernel ends the rest. Where the job is for the embedded engine, its process may
//! have been started and locked while there was nothing to do ([`super::ahead`]).

use super::ahead::Ahead;
use super::{Step, StepError, limits, lockdown, mounts, net, revealed, seccomp, sys};
use crate::embedded::{self, EmbeddedJob};
use crate::wire::{
    Features, FromChild, FromStage0, JobHead, Launch, Packet, SETTLED, Setup, Terms, read_job, receive, send,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// User and group id inside.
pub(super) const INSIDE_ID: u32 = 1000;
/// The host name inside.
const HOST_NAME: &[u8] = b"sandbox";
/// Exit code of a job process that could not start the program.
const EXIT_NOT_STARTED: i32 = 127;

/// Runs as process 1. `guard` is the socket to stage 0.
pub(super) fn main(setup: &Setup, guard: &OwnedFd) -> ! {
    if let Err(StepError { step, errno }) = live(setup, guard) {
        let _ = send(guard, &FromChild::Failed { step, errno: errno.raw_os_error() }, &[]);
    }
    sys::exit_now(1)
}

fn live(setup: &Setup, guard: &OwnedFd) -> Result<(), StepError> {
    // What needs no id of its own is done while the guard still maps the ids.
    let sources = mounts::collect(setup)?;
    let (roles, listeners): (Vec<_>, Vec<_>) = net::open(setup)?.into_iter().unzip();
    // The guard says that the ids are mapped. Silence means that it is gone, and so are we.
    if receive(guard, RecvFlags::empty()).step("wait for the id map")?.is_none() {
        return Ok(());
    }
    become_inside_user(setup)?;
    set_parent_process_death_signal(Some(Signal::KILL)).step("tie to the guard")?;
    rustix::process::setsid().step("new session")?;
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    rustix::system::sethostname(HOST_NAME).step("set the host name")?;
    let root = mounts::build(sources)?;

    let features =
        Features { landlock_abi: sys::landlock_abi(), private_proc: root.private_proc, programs: Vec::new() };
    let (values, values_in) = revealed::open()?;
    let fds: Vec<_> = listeners.iter().chain([&values_in]).map(AsFd::as_fd).collect();
    send(guard, &FromChild::Built { roles, features }, &fds).step("hand over the listeners")?;
    drop((listeners, values_in));

    let bounded = setup.cgroup.is_some();
    let mut ahead = None;
    let Some(packet) = wait_for_job(guard, setup, &values, &mut ahead)? else { return Ok(()) };
    let terms = packet.parse::<Terms>().step("read the run's terms")?;
    let file = packet.fds.first().ok_or(Errno::BADMSG).step("take the job")?;
    let (job, contents) = read_job(file).step("read the job")?;
    if !matches!(job.launch, Launch::Embedded { .. }) {
        ahead.take().into_iter().for_each(Ahead::put_aside);
    }
    mounts::finish(&root, &terms, &job, &contents)?;

    limits::apply(&terms, bounded)?;
    lockdown::drop_privileges()?;
    lockdown::restrict_files()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide the memory")?;
    set_parent_process_death_signal(Some(Signal::KILL)).step("tie to the guard")?;
    sys::default_signals();
    seccomp::apply(bounded)?;
    let pid = match ahead.and_then(|ahead| ahead.hand_over(&packet.bytes, file.as_fd())) {
        Some(pid) => pid,
        None => match sys::fork().step("start the job's process")? {
            None => start(job, &contents, values, guard),
            Some(pid) => pid,
        },
    };
    drop((packet, values));
    let_go_of_pipes()?;
    reap(pid, guard)
}

/// Waits for the job. In between the guard may say that this process is in its group; then what can be done ahead is.
fn wait_for_job(
    guard: &OwnedFd,
    setup: &Setup,
    values: &OwnedFd,
    ahead: &mut Option<Ahead>,
) -> Result<Option<Packet>, StepError> {
    loop {
        match receive(guard, RecvFlags::empty()).step("wait for the job")? {
            Some(packet) if packet.bytes == SETTLED => {
                if setup.engine && ahead.is_none() {
                    *ahead = Some(Ahead::start(values, guard, setup.cgroup.is_some())?);
                }
            }
            other => return Ok(other),
        }
    }
}

fn become_inside_user(setup: &Setup) -> Result<(), StepError> {
    use rustix::thread::{Gid, Uid};
    let (gid, uid) = (Gid::from_raw(INSIDE_ID), Uid::from_raw(INSIDE_ID));
    set_thread_res_gid(gid, gid, gid).step("take the inside group")?;
    if setup.host_uid.is_some() {
        set_thread_groups(&[]).step("leave every group")?;
    }
    set_thread_res_uid(uid, uid, uid).step("take the inside user")
}

/// Waits for everything that ends inside, until the job's process does; then ends the rest, and reports.
fn reap(job: Pid, guard: &OwnedFd) -> Result<(), StepError> {
    let mut ended = None;
    loop {
        match (sys::wait_any(), ended) {
            (Ok((pid, status)), _) if pid == job => {
                ended = Some(status);
                sys::kill_everything();
            }
            (Ok(_) | Err(Errno::INTR), _) => {}
            (Err(Errno::CHILD), Some(status)) => {
                let ended = FromChild::Exited { status, cpu_ms: sys::children_cpu_ms() };
                return send(guard, &ended, &[]).step("report the end");
            }
            (Err(errno), _) => return Err(errno).step("wait for the job"),
        }
    }
}

/// Says why the job's process cannot go on, and ends it.
pub(super) fn fail(StepError { step, errno }: StepError, guard: &OwnedFd) -> ! {
    let _ = send(guard, &FromStage0::Failed { step, errno: errno.raw_os_error() }, &[]);
    sys::exit_now(EXIT_NOT_STARTED)
}

/// The pipes are the job's alone: their readers must see the end of it.
pub(super) fn let_go_of_pipes() -> Result<(), StepError> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step("open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).step("let go of stdout")?;
    rustix::stdio::dup2_stderr(&null).step("let go of stderr")
}

/// The job's process: no descriptor but the standard ones survives. `values` is where revealed ones come from.
pub(super) fn start(mut job: JobHead, contents: &[u8], values: OwnedFd, guard: &OwnedFd) -> ! {
    if rustix::process::chdir(&*job.directory).is_err() {
        sys::exit_now(EXIT_NOT_STARTED);
    }
    let mut env = match revealed::take(&job.revealed, values) {
        Ok(env) => env,
        Err(error) => fail(error, guard),
    };
    match job.launch {
        Launch::Nothing => sys::exit_now(0),
        Launch::Embedded { .. } => match (job_of(job, contents, env), sys::close_from(3, false)) {
            (Some(job), Ok(())) => sys::exit_now(embedded::run(job)),
            _ => sys::exit_now(EXIT_NOT_STARTED),
        },
        Launch::Exec { argv } => {
            env.append(&mut job.env);
            let text = |text: String| CString::new(text).map_err(|_| Errno::INVAL);
            let argv: Result<Vec<_>, _> = argv.into_iter().map(text).collect();
            let env: Result<Vec<_>, _> = env.into_iter().map(|(name, value)| text(format!("{name}={value}"))).collect();
            let errno = match (sys::close_from(3, true), argv, env) {
                (Ok(()), Ok(argv), Ok(env)) => sys::exec(&argv, &env),
                _ => Errno::INVAL,
            };
            let failed = FromChild::Failed { step: "start the runtime".to_owned(), errno: errno.raw_os_error() };
            let _ = send(guard, &failed, &[]);
            sys::exit_now(EXIT_NOT_STARTED)
        }
    }
}

/// The program of a job for the embedded engine, with these variables before its own; `None` of any other job.
pub(super) fn job_of(job: JobHead, contents: &[u8], mut env: Vec<(String, String)>) -> Option<EmbeddedJob> {
    let files = job.contents(contents).ok()?;
    let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    let Launch::Embedded { proxy_port, proxy_key, memory_bytes, entry } = job.launch else { return None };
    env.extend(job.env);
    Some(EmbeddedJob { files, entry, env, proxy_port, proxy_key, memory_bytes })
}
