//! The guard of a run without namespaces: `oauth3 sandbox-alone`.
//!
//! For a machine (a container, a trusted execution environment) where no namespace, no mount and no other user may
//! be had. The run is one process: it shares the view of processes, the network and the users with everything else
//! here, so what holds it are Landlock (files, TCP ports, signals), the system call filter (no process, no Unix
//! socket, no listening, no datagrams), limits, and, inside, the runtime's own permissions. Without Landlock's
//! network rules nothing runs.
//!
//! The guard stays outside of that, as the parent: it holds the clock, looks at what the kernel does not bound,
//! and ends the job when the runner is gone.

use super::child::{self, start};
use super::lockdown::{self, Alone};
use super::watch_job::Watch;
use super::{Step, StepError, cgroup::Group, limits, revealed, seccomp, sys, watch_memory};
use crate::wire::{AloneSetup, End, Features, FromStage0, JobHead, Launch, Packet, Terms, read_job, receive, send};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{
    DumpableBehavior, Pid, Signal, kill_process, set_dumpable_behavior, set_parent_process_death_signal,
};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The subcommand that the executable must answer with [`main`].
pub(crate) const ALONE_SUBCOMMAND: &str = "sandbox-alone";
/// The oldest Landlock that knows about TCP (Linux 6.7).
pub(crate) const LANDLOCK_WITH_TCP: i32 = 4;
/// Folders of a run's own directory: code and certificate; what may be written.
pub(crate) const CODE: &str = "skill";
pub(crate) const TMP: &str = "tmp";
/// The run's certificate, in the run's own directory.
pub(crate) const CERTIFICATE: &str = "ca.pem";
/// What every program reads: libraries, the loader's list, time zones, devices without state.
const READABLE: [&str; 12] = [
    "/lib",
    "/lib64",
    "/lib32",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib32",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];
/// Loaders of programs, by architecture and C library. They may be executed, for the kernel does so.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];
/// The kernel's own out-of-memory choice falls on the job first.
const OOM_SCORE: &str = "1000";
/// Most files and directories that are counted in what a run wrote; more is too much.
const MAX_FILES: usize = 8192;
/// Threads of a run without a control group to count them, above what this user has already.
const MAX_TASKS: usize = 1 << 20;

/// Runs as the guard, with the socket to the runner on descriptor 0.
pub(super) fn main() -> ! {
    if let Ok(link) = super::nursery::adopt() {
        match live(&link) {
            Ok(Some(report)) => drop(send(&link, &report, &[])),
            Ok(None) => {}
            Err(StepError { step, errno }) => {
                let _ = send(&link, &FromStage0::Failed { step, errno: errno.raw_os_error() }, &[]);
            }
        }
    }
    sys::exit_now(0)
}

fn live(link: &OwnedFd) -> Result<Option<FromStage0>, StepError> {
    // Of the same user as the job, perhaps: nothing of this process is to be read or traced.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide the memory")?;
    let Some(packet) = receive(link, RecvFlags::empty()).step("read the set-up")? else { return Ok(None) };
    let alone: AloneSetup = packet.parse().step("read the set-up")?;
    let abi = sys::landlock_abi();
    if abi < LANDLOCK_WITH_TCP {
        return Err(StepError { step: "Landlock with TCP".to_owned(), errno: Errno::NOSYS });
    }
    take_pipes(packet)?;
    let group = alone.setup.cgroup.as_ref().map(Group::create).transpose()?;
    let features = Features { landlock_abi: abi, private_proc: false, programs: Vec::new() };
    let cgroup = group.as_ref().map_or("none", Group::flavour).to_owned();
    let (values, values_in) = revealed::open()?;
    send(link, &FromStage0::Ready { roles: Vec::new(), features, cgroup }, &[values_in.as_fd()]).step("report")?;
    drop(values_in);

    let Some(packet) = receive(link, RecvFlags::empty()).step("wait for the job")? else { return Ok(None) };
    let file = packet.fds.first().ok_or(Errno::BADMSG).step("take the job")?;
    let terms = packet.parse::<Terms>().step("read the run's terms")?;
    let (job, contents) = read_job(file).step("read the job")?;
    drop(packet);
    if let Some(group) = &group {
        group.limit(&terms)?;
        group.enter()?;
    }
    let directory = Path::new(&alone.directory);
    lay_out(directory, &job, &contents, alone.setup.host_uid)?;
    let tasks = own_tasks(alone.setup.host_uid);
    let guard = rustix::process::getpid();
    let Some(pid) = sys::fork().step("start the job's process")? else {
        match lock(&alone, &terms, &job, tasks, guard) {
            Ok(()) => start(job, &contents, values, link),
            Err(error) => child::fail(error, link),
        }
    };
    drop(values);
    child::let_go_of_pipes()?;
    let (bounded, kills) = (group.is_some(), group.as_ref().map_or(0, Group::oom_kills));
    let tmp = directory.join(TMP);
    let watch = Watch {
        link,
        timeout_ms: terms.timeout_ms,
        cpu_ms: terms.cpu_ms,
        group: group.as_ref(),
        over: &|| {
            if !bounded && watch_memory::tree_bytes(pid) > terms.memory_bytes {
                return Some(End::OutOfMemory);
            }
            // As if the file size limit had met it.
            (written(&tmp) > limits::TMP_BYTES).then_some(End::Status(libc::SIGXFSZ))
        },
        out_of_memory: &|| group.as_ref().is_some_and(|group| group.oom_kills() > kills),
        // The filter lets it make no other process.
        end_all: &|job: Option<Pid>| {
            let _ = job.map(|job| kill_process(job, Signal::KILL));
        },
    };
    let report = watch.until_end(pid).step("wait for the job");
    let _ = fs::remove_dir_all(directory);
    report
}

fn take_pipes(packet: Packet) -> Result<(), StepError> {
    let [stdout, stderr] = <[OwnedFd; 2]>::try_from(packet.fds).map_err(|_| Errno::BADMSG).step("take the pipes")?;
    rustix::stdio::dup2_stdout(&stdout).step("take stdout")?;
    rustix::stdio::dup2_stderr(&stderr).step("take stderr")
}

/// The job's process gives up everything that it can.
fn lock(alone: &AloneSetup, terms: &Terms, job: &JobHead, tasks: u32, guard: Pid) -> Result<(), StepError> {
    let setup = &alone.setup;
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    rustix::process::setsid().step("new session")?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let directory = Path::new(&alone.directory);
    if let Some(id) = setup.host_uid {
        become_user(id)?;
    }
    // Taking another user forgets it.
    set_parent_process_death_signal(Some(Signal::KILL)).step("tie to the guard")?;
    if rustix::process::getppid() != Some(guard) {
        return Err(StepError { step: "tie to the guard".to_owned(), errno: Errno::SRCH });
    }
    limits::apply(
        &Terms { processes: terms.processes.saturating_add(tasks), ..terms.clone() },
        setup.cgroup.is_some(),
    )?;
    lockdown::drop_capabilities()?;
    let mut readable: Vec<PathBuf> = READABLE.iter().map(PathBuf::from).collect();
    readable.extend(lockdown::STORES.map(PathBuf::from));
    readable.extend([CODE, CERTIFICATE].map(|name| directory.join(name)));
    let program = match &job.launch {
        Launch::Exec { argv } => argv.first().map(PathBuf::from),
        _ => None,
    };
    let executable: Vec<PathBuf> = match program {
        Some(program) => LOADERS.iter().map(PathBuf::from).chain([program]).collect(),
        None => Vec::new(),
    };
    let writable = directory.join(TMP);
    sys::default_signals();
    lockdown::restrict_alone(&Alone {
        readable: &readable,
        executable: &executable,
        writable: &writable,
        port: setup.proxy_port,
    })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide the memory")?;
    seccomp::apply_alone(setup.cgroup.is_some())
}

fn become_user(id: u32) -> Result<(), StepError> {
    use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    lockdown::empty_bounding_set()?;
    let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
    set_thread_groups(&[]).step("leave every group")?;
    set_thread_res_gid(gid, gid, gid).step("take the run's group")?;
    set_thread_res_uid(uid, uid, uid).step("take the run's user")
}

/// The run's files, readable for its user alone.
fn lay_out(directory: &Path, job: &JobHead, contents: &[u8], user: Option<u32>) -> Result<(), StepError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
    let (skill, tmp) = (directory.join(CODE), directory.join(TMP));
    for folder in [&skill, &tmp] {
        fs::DirBuilder::new().mode(0o700).create(folder).step("make the run's directory")?;
    }
    let mut made = vec![directory.to_owned(), skill.clone(), tmp];
    let mut write = |path: PathBuf, bytes: &[u8]| {
        use std::io::Write;
        let parents =
            path.parent().map_or(Ok(()), |parent| fs::DirBuilder::new().recursive(true).mode(0o700).create(parent));
        parents.step("make the run's directory")?;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
        made.push(path);
        file.and_then(|mut file| file.write_all(bytes)).step("write the job's files")
    };
    let files = job.contents(contents).step("read the job")?;
    for (path, bytes) in &files {
        write(skill.join(path), bytes)?;
    }
    write(directory.join(CERTIFICATE), job.ca_pem.as_bytes())?;
    for folder in files.iter().flat_map(|(path, _)| Path::new(path).ancestors().skip(1)) {
        made.push(skill.join(folder));
    }
    match user {
        Some(id) => made.iter().try_for_each(|path| chown(path, Some(id), Some(id)).step("give the run its files")),
        None => Ok(()),
    }
}

/// Processes and threads that the run's user has already: the kernel's limit counts them too.
fn own_tasks(user: Option<u32>) -> u32 {
    use std::os::unix::fs::MetadataExt;
    let user = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let mut count = 0_usize;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten().take(MAX_TASKS) {
        let is_process = process.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        // What is not dumpable belongs to root in /proc: counted by its real user in its status.
        if is_process
            && (process.metadata().is_ok_and(|data| data.uid() == user) || real_user(&process.path()) == Some(user))
        {
            count += fs::read_dir(process.path().join("task")).map_or(1, Iterator::count);
        }
    }
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn real_user(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
}

/// Bytes of the files below a folder; very many files are too much whatever they hold.
fn written(folder: &Path) -> u64 {
    let (mut todo, mut bytes, mut seen) = (vec![folder.to_owned()], 0_u64, 0);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_FILES {
                return u64::MAX;
            }
            // Of the entry itself: links are not followed.
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                todo.push(entry.path());
            } else {
                use std::os::unix::fs::MetadataExt;
                bytes = bytes.saturating_add(data.len().min(data.blocks().saturating_mul(512)));
            }
        }
    }
    bytes
}
