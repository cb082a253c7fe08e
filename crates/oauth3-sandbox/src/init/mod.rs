//! The clean helper that becomes the sandbox: `oauth3 sandbox-init`.
//!
//! The gateway never forks itself: its memory holds what it knows. It executes its own program again with an
//! empty environment, and that process (the nursery) forks one guard (stage 0) per sandbox. Stage 0 makes the
//! namespaces and stays outside: it holds the wall clock and ends everything when the gateway goes away. Its
//! child is process 1 inside: it builds the file system, gives up every right and starts the job's process.
//!
//! - [`nursery`]: waits for sandboxes to be asked for
//! - [`stage0`]: the guard outside
//! - [`child`]: process 1 and the job
//! - [`net`], [`mounts`], [`cgroup`], [`watch_memory`], [`watch_cpu`], [`limits`], [`lockdown`], [`seccomp`]: one wall each
//! - [`sys`]: system calls that no library covers

mod cgroup;
mod child;
mod limits;
mod lockdown;
mod mounts;
mod net;
mod nursery;
mod seccomp;
mod stage0;
mod sys;
mod watch_cpu;
mod watch_memory;

pub(crate) use sys::shell_code;

use rustix::io::Errno;

/// The subcommand that the executable must answer with [`init_main`].
pub const INIT_SUBCOMMAND: &str = "sandbox-init";

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

/// The entry of `oauth3 sandbox-init`. Reads everything from the socket on descriptor 0; takes no arguments and
/// no environment. Must be called before the process has a second thread. Never returns; the exit code says
/// nothing, the sockets do.
pub fn init_main() -> ! {
    nursery::main()
}
