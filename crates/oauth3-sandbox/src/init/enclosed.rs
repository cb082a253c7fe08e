//! A program of the owner's or an agent's own, in a network of its own: `oauth3 sandbox-enclosed FD PROGRAM…`.
//!
//! This process makes a user, network and mount namespace for itself, hands the listeners out, and becomes the program:
//! same process id, same standard streams, same directory. Files stay as they are, but for those that are hidden.

use super::{Step, StepError, lockdown, mounts, net, sys};
use crate::wire::{Enclose, FromEnclosed, receive, send};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::RecvFlags;
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The subcommand.
pub(crate) const ENCLOSED_SUBCOMMAND: &str = "sandbox-enclosed";
/// Descriptors up to here are the program's own: the standard streams.
const FIRST_OTHER_FD: i32 = 3;

/// Becomes the program, or says on the socket why not.
pub(super) fn main() -> ! {
    let mut words = std::env::args_os().skip(2);
    let fd = words.next().and_then(|word| word.to_str()?.parse().ok()).filter(|fd| *fd >= FIRST_OTHER_FD);
    if let Some(fd) = fd {
        let control = sys::inherited(fd);
        let StepError { step, errno } = become_program(&control, words.collect());
        let _ = send(&control, &FromEnclosed::Failed { step, errno: errno.raw_os_error() }, &[]);
    }
    sys::exit_now(1)
}

/// Returns only when a step failed.
fn become_program(control: &OwnedFd, command: Vec<OsString>) -> StepError {
    match prepare(control) {
        Ok(()) => start(command),
        Err(error) => error,
    }
}

fn prepare(control: &OwnedFd) -> Result<(), StepError> {
    fcntl_setfd(control, FdFlags::CLOEXEC).step("keep the control socket")?;
    let packet =
        receive(control, RecvFlags::empty()).step("read the plan")?.ok_or(Errno::PIPE).step("read the plan")?;
    let plan: Enclose = packet.parse().step("read the plan")?;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare_network().step("make namespaces")?;
    fs::write("/proc/self/setgroups", "deny").step("forbid group changes")?;
    // The same ids inside, so that files look as they did.
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1\n")).step("map the user id")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1\n")).step("map the group id")?;
    let directory = std::env::current_dir();
    for path in &plan.hide {
        mounts::hide(path)?;
    }
    // Found anew: what was open before would still be what is hidden now.
    if directory.is_ok_and(|directory| std::env::set_current_dir(directory).is_err()) {
        std::env::set_current_dir("/").step("enter the root")?;
    }
    net::bring_up_loopback()?;
    let local = |port: &u16| net::stream(SocketAddr::from((Ipv4Addr::LOCALHOST, *port)));
    let listeners = plan.ports.iter().map(local).collect::<Result<Vec<OwnedFd>, StepError>>()?;
    lockdown::drop_privileges()?;
    set_parent_process_death_signal(Some(Signal::TERM)).step("end with the starter")?;
    sys::close_from(FIRST_OTHER_FD.cast_unsigned(), true).step("leave descriptors behind")?;
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    send(control, &FromEnclosed::Ready, &fds).step("hand the listeners out")
}

#[allow(clippy::disallowed_methods, reason = "this process itself becomes the program")]
fn start(command: Vec<OsString>) -> StepError {
    let mut words = command.into_iter();
    let error = match words.next() {
        Some(program) => Command::new(program).args(words).exec(),
        None => std::io::Error::from(Errno::INVAL),
    };
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    StepError { step: START.to_owned(), errno }
}

/// The step after which there is no way back.
pub(crate) const START: &str = "start the program";
