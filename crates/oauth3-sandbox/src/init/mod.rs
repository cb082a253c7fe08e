//! The clean helper that becomes the sandbox: `oauth3 sandbox-init`.
//!
//! The gateway never forks itself: its memory holds what it knows. It executes its own program again with an
//! empty environment, and that process (the nursery) forks one guard (stage 0) per sandbox. Stage 0 makes the
//! namespaces and stays outside: it holds the wall clock and ends everything when the gateway goes away. Its
//! child is process 1 inside: it builds the file system, gives up every right and starts the job's process.
//!
//! Two other backends have their own first process: [`guest`] in a container, [`alone`] where nothing can be made.
//!
//! - [`nursery`]: waits for sandboxes to be asked for
//! - [`stage0`]: the guard outside
//! - [`child`]: process 1 and the job
//! - [`ahead`]: the embedded engine, started before its job
//! - [`net`], [`mounts`], [`cgroup`], [`watch_memory`], [`watch_cpu`], [`limits`], [`lockdown`], [`seccomp`]: one wall each
//! - [`enclosed`]: no sandbox for code, but a network of its own for a program of the owner's choice
//! - [`revealed`]: real values that go to the code past everybody else
//! - [`sys`]: system calls that no library covers

mod ahead;
mod alone;
mod cgroup;
mod child;
mod enclosed;
mod guest;
mod limits;
mod lockdown;
mod mounts;
mod net;
mod nursery;
mod revealed;
mod seccomp;
mod stage0;
mod sys;
mod watch_cpu;
mod watch_job;
mod watch_memory;

pub(crate) use alone::{ALONE_SUBCOMMAND, CERTIFICATE, CODE, LANDLOCK_WITH_TCP, TMP};
pub(crate) use enclosed::{ENCLOSED_SUBCOMMAND, START};
pub(crate) use guest::{GUEST_CERTIFICATES, GUEST_PROGRAMS, GUEST_SKILL, GUEST_SOCKET, GUEST_SUBCOMMAND};
pub(crate) use sys::{landlock_abi, shell_code};

use rustix::io::Errno;
use std::ffi::OsStr;

/// The subcommand of the nursery.
pub(crate) const INIT_SUBCOMMAND: &str = "sandbox-init";

/// A step that failed, by a name that an owner can look up, with the system's answer.
#[derive(Debug, Clone)]
struct StepError {
    step: String,
    errno: Errno,
}

/// Names the step of a system call.
trait Step<T> {
    fn step(self, name: &str) -> Result<T, StepError>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, name: &str) -> Result<T, StepError> {
        self.map_err(|errno| StepError { step: name.to_owned(), errno })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, name: &str) -> Result<T, StepError> {
        self.map_err(|error| StepError {
            step: name.to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })
    }
}

/// Becomes a part of a sandbox when `subcommand` is the name of one, and then never returns; the exit code says
/// nothing, the sockets do. Must be called before the process has a second thread.
///
/// - `sandbox-init`: the nursery of native sandboxes; reads everything from the socket on descriptor 0
/// - `sandbox-guest`: process 1 of a container
/// - `sandbox-alone`: the guard of a run without namespaces; reads everything from the socket on descriptor 0
/// - `sandbox-enclosed FD PROGRAM…`: becomes the program, in a network of its own; reads the rest from the socket on FD
pub fn become_helper(subcommand: &OsStr) {
    match subcommand.to_str() {
        Some(INIT_SUBCOMMAND) => nursery::main(),
        Some(GUEST_SUBCOMMAND) => guest::main(),
        Some(ALONE_SUBCOMMAND) => alone::main(),
        Some(ENCLOSED_SUBCOMMAND) => enclosed::main(),
        _ => {}
    }
}
