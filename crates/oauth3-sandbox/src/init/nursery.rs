//! The process that waits for sandboxes to be asked for, and forks a guard for each.
//!
//! Starting a program costs a third of a sandbox, so the helper is started once and forks. It stays as clean as
//! it began: it gets descriptors and forgets them, never a job. One thread, so forking is sound.

use super::{stage0, sys};
use crate::wire::receive;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::os::fd::OwnedFd;

/// Control socket, standard output and standard error of one sandbox.
const FDS_OF_A_SANDBOX: usize = 3;

/// Serves the socket on descriptor 0 until the other side is gone. Only a forked guard comes out of the loop.
pub(super) fn main() -> ! {
    if let Ok(requests) = adopt() {
        sys::forget_children();
        while let Ok(Some(packet)) = receive(&requests, RecvFlags::empty()) {
            if packet.fds.len() != FDS_OF_A_SANDBOX {
                continue;
            }
            // A failed fork is seen by the gateway as a control socket that closes.
            if matches!(sys::fork(), Ok(None)) {
                match become_guard(packet.fds) {
                    Ok(control) => stage0::main(control),
                    Err(_) => sys::exit_now(1),
                }
            }
        }
    }
    sys::exit_now(0)
}

/// Moves the socket away from 0, puts nothing there, and closes what was inherited by mistake.
pub(super) fn adopt() -> Result<OwnedFd, Errno> {
    sys::close_from(3, false)?;
    let original = sys::inherited(0);
    let requests = rustix::io::fcntl_dupfd_cloexec(&original, 3)?;
    // Number 0 stays taken throughout, so that nothing else can land on it.
    rustix::stdio::dup2_stdin(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)?;
    std::mem::forget(original);
    Ok(requests)
}

/// Takes on one sandbox's pipes and lets go of everything else. Returns its control socket.
fn become_guard(fds: Vec<OwnedFd>) -> Result<OwnedFd, Errno> {
    let [control, stdout, stderr] = <[OwnedFd; FDS_OF_A_SANDBOX]>::try_from(fds).map_err(|_| Errno::INVAL)?;
    sys::default_signals();
    rustix::process::setpgid(None, None)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    rustix::stdio::dup2_stderr(&stderr)?;
    // Number 0 carries the socket over the closing.
    rustix::stdio::dup2_stdin(&control)?;
    [control, stdout, stderr].into_iter().for_each(std::mem::forget);
    adopt()
}
