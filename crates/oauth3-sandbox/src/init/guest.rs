//! Process 1 of a container that an engine made: `oauth3 sandbox-guest`.
//!
//! The engine has made the walls: namespaces without a network, a read-only root, no capabilities. This process
//! comes from outside of the image, reaches the runner through a socket that is bound into the container and
//! accepts once, and does inside what the engine cannot: it binds the listeners and hands them out, takes the
//! pipes and the job (so that the engine sees neither code nor environment nor output), adds Landlock and our
//! filter, starts the runtime, and ends everything when time is up or the runner is gone.

use super::child::{self, start};
use super::watch_job::Watch;
use super::{Step, StepError, limits, lockdown, net, revealed, seccomp, sys};
use crate::wire::{Features, FromStage0, JobHead, Launch, Setup, Terms, read_job, receive, send};
use oauth3_core::Runtime;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The subcommand that the executable must answer with [`main`].
pub(crate) const GUEST_SUBCOMMAND: &str = "sandbox-guest";
/// Where the engine binds the runner's socket.
pub(crate) const GUEST_SOCKET: &str = "/oauth3.sock";
/// Where the job's files go: memory, and this process's own.
pub(crate) const GUEST_SKILL: &str = "/skill";
pub(crate) const GUEST_CERTIFICATES: &str = "/etc/ssl/certs";
const BUNDLE: &str = "ca-certificates.crt";
/// What counts the kills of the memory limit, in the unified hierarchy and in the old one.
const MEMORY_EVENTS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
/// The kernel's own out-of-memory choice falls on the job first: this process has to report it.
const OOM_SCORE: &str = "1000";
/// Runtimes that are programs, and what they are called in an image.
pub(crate) const GUEST_PROGRAMS: [(Runtime, &str); 4] =
    [(Runtime::Deno, "deno"), (Runtime::Node, "node"), (Runtime::Python, "python3"), (Runtime::Shell, "sh")];
/// Where programs are when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs as process 1. What cannot be told to the runner shows as the end of the container.
pub(super) fn main() -> ! {
    let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
    if let Ok(link) = reach() {
        match live(&link, &path) {
            Ok(Some(report)) => drop(send(&link, &report, &[])),
            Ok(None) => {}
            Err(StepError { step, errno }) => {
                let _ = send(&link, &FromStage0::Failed { step, errno: errno.raw_os_error() }, &[]);
            }
        }
    }
    sys::exit_now(0)
}

fn reach() -> Result<OwnedFd, Errno> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    sys::close_from(3, false)?;
    let link = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&link, &SocketAddrUnix::new(GUEST_SOCKET)?)?;
    Ok(link)
}

fn live(link: &OwnedFd, path: &str) -> Result<Option<FromStage0>, StepError> {
    let Some(packet) = receive(link, RecvFlags::empty()).step("read the set-up")? else { return Ok(None) };
    let setup: Setup = packet.parse().step("read the set-up")?;
    let [stdout, stderr] = <[OwnedFd; 2]>::try_from(packet.fds).map_err(|_| Errno::BADMSG).step("take the pipes")?;
    rustix::stdio::dup2_stdout(&stdout).step("take stdout")?;
    rustix::stdio::dup2_stderr(&stderr).step("take stderr")?;
    drop((stdout, stderr));

    let (roles, listeners): (Vec<_>, Vec<_>) = net::listeners(&setup)?.into_iter().unzip();
    let features = Features { landlock_abi: sys::landlock_abi(), private_proc: false, programs: programs(path) };
    let (values, values_in) = revealed::open()?;
    let fds: Vec<_> = listeners.iter().chain([&values_in]).map(AsFd::as_fd).collect();
    let ready = FromStage0::Ready { roles, features, cgroup: "of the engine".to_owned() };
    send(link, &ready, &fds).step("hand over the listeners")?;
    drop((listeners, values_in));

    let Some(packet) = receive(link, RecvFlags::empty()).step("wait for the job")? else { return Ok(None) };
    let file = packet.fds.first().ok_or(Errno::BADMSG).step("take the job")?;
    let terms = packet.parse::<Terms>().step("read the run's terms")?;
    let (mut job, contents) = read_job(file).step("read the job")?;
    drop(packet);
    lay_out(&job, &contents)?;
    resolve(&mut job, path)?;

    let kills_before = oom_kills();
    let Some(pid) = sys::fork().step("start the job's process")? else {
        match lock(&terms) {
            Ok(()) => start(job, &contents, values, link),
            Err(error) => child::fail(error, link),
        }
    };
    drop(values);
    child::let_go_of_pipes()?;
    let watch = Watch {
        link,
        timeout_ms: terms.timeout_ms,
        cpu_ms: terms.cpu_ms,
        group: None,
        over: &|| None,
        out_of_memory: &|| oom_kills() > kills_before,
        // From process 1, this is everything in the container.
        end_all: &|_| sys::kill_everything(),
    };
    watch.until_end(pid).step("wait for the job")
}

/// The job's process gives up what the engine left it.
fn lock(terms: &Terms) -> Result<(), StepError> {
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // The engine counts the processes of this container; the kernel's count per user is over every container whose
    // user has this number, another gateway's too.
    limits::apply(&Terms { processes: u32::MAX - 1, ..terms.clone() }, true)?;
    lockdown::drop_capabilities()?;
    lockdown::restrict(&["/"], &["/tmp", "/dev"])?;
    sys::default_signals();
    seccomp::apply(true)
}

/// Puts code and certificate where the job finds them.
fn lay_out(job: &JobHead, contents: &[u8]) -> Result<(), StepError> {
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o444)))
            .step("write the job's files")
    };
    for (path, bytes) in job.contents(contents).step("read the job")? {
        let path = Path::new(GUEST_SKILL).join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all).step("write the job's files")?;
        write(&path, bytes)?;
    }
    write(&Path::new(GUEST_CERTIFICATES).join(BUNDLE), job.ca_pem.as_bytes())
}

/// Which of the runtimes' programs the image has.
fn programs(path: &str) -> Vec<String> {
    GUEST_PROGRAMS.iter().filter(|(_, name)| find(path, name).is_some()).map(|(_, name)| (*name).to_owned()).collect()
}

fn find(path: &str, name: &str) -> Option<String> {
    let found = std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.and_then(|file| file.to_str().map(str::to_owned))
}

/// Looks for the program in the image, as a shell of the image would.
fn resolve(job: &mut JobHead, path: &str) -> Result<(), StepError> {
    let Launch::Exec { argv } = &mut job.launch else { return Ok(()) };
    let Some(program) = argv.first_mut() else { return Ok(()) };
    if !program.contains('/') {
        *program = find(path, program).ok_or(Errno::NOENT).step("find the runtime in the image")?;
    }
    Ok(())
}

fn oom_kills() -> u64 {
    let text = MEMORY_EVENTS.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}
