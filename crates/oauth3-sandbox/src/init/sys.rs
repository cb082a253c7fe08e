//! System calls that rustix does not cover. Each function is a thin wrapper with one `unsafe` block.
#![allow(unsafe_code, reason = "raw system calls are what this module is for")]

use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{CString, c_char, c_int, c_long};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args` up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP`, not in the libc crate for every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Both sides of a clone.
pub(super) enum Cloned {
    /// The new process: number 1 of its own namespace.
    Child,
    /// The caller.
    Parent { pid: Pid, pidfd: OwnedFd },
}

fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Makes a child in new user, mount, pid, network, IPC, UTS and cgroup namespaces, inside `cgroup` if given.
/// Only for a process with one thread.
pub(super) fn clone_into_namespaces(cgroup: Option<&OwnedFd>) -> Result<Cloned, Errno> {
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PIDFD;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from(namespaces.cast_unsigned()),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the structure is a valid `clone_args` of the size given, `pidfd` outlives the call, and without
    // CLONE_VM the child has its own copy of this single-threaded process, so both may go on as they are.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size_of::<CloneArgs>()) };
    match check(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
            // SAFETY: the kernel stored a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Gives this process a user, a network and a mount namespace of its own. Only for a process with one thread.
pub(super) fn unshare_network() -> Result<(), Errno> {
    // SAFETY: takes no memory, and no other thread shares what is unshared.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS) }))
        .map(drop)
}

/// Forks; `None` in the child. Only for a process with one thread.
pub(super) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: with one thread the child is a whole copy; every lock is free.
    let result = unsafe { libc::fork() };
    Ok(Pid::from_raw(i32::try_from(check(c_long::from(result))?).map_err(|_| Errno::SRCH)?))
}

/// Waits for any child: its id and wait status.
pub(super) fn wait_any() -> Result<(Pid, i32), Errno> {
    let mut status: c_int = 0;
    // SAFETY: `status` outlives the call.
    let result = check(c_long::from(unsafe { libc::waitpid(-1, &raw mut status, 0) }))?;
    Ok((i32::try_from(result).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?, status))
}

/// CPU time of every descendant that was waited for, in milliseconds.
pub(super) fn children_cpu_ms() -> u64 {
    // SAFETY: all-zero is a valid `rusage`, and it outlives the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_usec).unwrap_or(0) / 1000)
        .sum()
}

/// `struct mount_attr` (Linux 5.12).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) and propagation of the mount at `fd`, or of its whole tree.
pub(super) fn mount_setattr(fd: impl AsFd, set: u64, propagation: u64, recursive: bool) -> Result<(), Errno> {
    let attr = MountAttr { set, clear: 0, propagation, userns: 0 };
    let flags = libc::AT_EMPTY_PATH
        | if recursive {
            0x8000 /* AT_RECURSIVE */
        } else {
            0
        };
    // SAFETY: the path is a constant string, the structure is a valid `mount_attr` of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Closes every descriptor from `first` on, or marks them to be closed by the next exec.
pub(super) fn close_from(first: u32, on_exec_only: bool) -> Result<(), Errno> {
    let flags = if on_exec_only { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: closes descriptors only. Callers drop no owner of a descriptor in that range afterwards except
    // by ending the process.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Closes every descriptor from 3 on but these.
pub(super) fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let close = |first: u32, last: u32| {
        if first > last {
            return Ok(());
        }
        // SAFETY: closes descriptors only. Callers drop no owner of one of them afterwards, but end the process.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
    };
    let mut first = 3;
    for fd in kept {
        close(first, fd.saturating_sub(1))?;
        first = fd.saturating_add(1);
    }
    close(first, u32::MAX)
}

/// Takes over a descriptor that the starter of this process put there.
pub(super) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: called once per number, at the start of the process, before anything else opens files.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Puts every signal back to its default and unblocks all: the Rust runtime ignores SIGPIPE, and that would
/// outlive the exec.
pub(super) fn default_signals() {
    // SAFETY: SIG_DFL is valid for every signal; the set is initialised by sigemptyset.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Lets the kernel take children away when they end: nobody waits for them.
pub(super) fn forget_children() {
    // SAFETY: SIG_IGN is valid for this signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Replaces this process by a program. Returns only when that failed.
pub(super) fn exec(argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (arguments, variables) = (pointers(argv), pointers(env));
    let Some(program) = argv.first() else { return Errno::INVAL };
    // SAFETY: both lists end with a null pointer and point to strings that live until the call returns.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
    last_errno()
}

/// Ends every process that this one may signal, but itself. For process 1 of a namespace.
pub(super) fn kill_everything() {
    // SAFETY: takes no memory.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Ends this process at once, running nothing.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Turns a wait status into what a shell would show: the exit code, or 128 plus the signal.
pub(crate) const fn shell_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// The signal that ended the process, if one did.
pub(crate) const fn ending_signal(status: i32) -> Option<i32> {
    if libc::WIFSIGNALED(status) { Some(libc::WTERMSIG(status)) } else { None }
}

/// The Landlock ABI of this kernel; 0 without.
pub(crate) fn landlock_abi() -> i32 {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the kernel reads no structure.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    i32::try_from(result).unwrap_or(0).max(0)
}

/// Puts this process under a system call filter. New privileges must be forbidden already.
pub(super) fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::FBIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the structure points to `len` instructions that outlive the call; the kernel only reads them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) })
        .map(drop)
}
