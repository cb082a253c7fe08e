//! Starts a program of the owner's or an agent's: in a network of its own, in which only what its starter serves can be
//! reached, or with nothing around it.

use crate::SandboxError;
use crate::init::{ENCLOSED_SUBCOMMAND, START};
use crate::native::explain;
use crate::wire::{Enclose, FromEnclosed, receive, send};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use tokio::process::{Child, Command};

/// What is to run, and how.
#[derive(Debug)]
pub struct Enclosure {
    /// Our own executable.
    pub helper: PathBuf,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables over those that there are.
    pub variables: Vec<(String, String)>,
    /// Ports of loopback inside that are served from outside.
    pub ports: Vec<u16>,
    /// Directories that are empty inside.
    pub hide: Vec<PathBuf>,
}

/// Starts it: the process, which becomes the program, and a listener for each port, in their order. It has a user, a
/// network and a mount namespace of its own, no capability, and can gain none; files and Unix sockets that have a path
/// are what they are outside. It ends with the thread that calls this.
///
/// # Errors
/// When the namespaces cannot be made, or the program cannot be started: then nothing of it has run.
#[allow(clippy::disallowed_methods, reason = "sandboxes are started here")]
pub async fn enclose(enclosure: Enclosure) -> Result<(Child, Vec<TcpListener>), SandboxError> {
    let failed = |error: Errno| SandboxError::Helper(error.to_string());
    let (control, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    send(&control, &Enclose { ports: enclosure.ports, hide: enclosure.hide }, &[]).map_err(failed)?;
    // For the one process that is told its number.
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(failed)?;
    let mut command = Command::new(&enclosure.helper);
    command.arg(ENCLOSED_SUBCOMMAND).arg(theirs.as_raw_fd().to_string()).args(enclosure.command);
    let mut child =
        command.envs(enclosure.variables).spawn().map_err(|error| SandboxError::Helper(error.to_string()))?;
    drop(theirs);
    let heard = tokio::task::spawn_blocking(move || hear(&control)).await;
    let outcome = heard.map_err(|error| SandboxError::Helper(error.to_string())).flatten();
    if outcome.is_err() {
        // It says why and ends.
        let _ = child.wait().await;
    }
    outcome.map(|listeners| (child, listeners))
}

/// Starts a program with these variables over those that there are, and nothing around it.
///
/// # Errors
/// When it cannot be started.
#[allow(clippy::disallowed_methods, reason = "processes are started here")]
pub fn start_open(command: Vec<OsString>, variables: Vec<(String, String)>) -> Result<Child, SandboxError> {
    let mut words = command.into_iter();
    let program = words.next().unwrap_or_default();
    Command::new(program).args(words).envs(variables).spawn().map_err(SandboxError::Start)
}

/// Waits until the program runs, which closes the socket.
fn hear(control: &OwnedFd) -> Result<Vec<TcpListener>, SandboxError> {
    let mut listeners = None;
    loop {
        let packet = receive(control, RecvFlags::empty()).map_err(|errno| SandboxError::Helper(errno.to_string()))?;
        let Some(packet) = packet else { break };
        match packet.parse() {
            Ok(FromEnclosed::Ready) => listeners = Some(packet.fds.into_iter().map(TcpListener::from).collect()),
            Ok(FromEnclosed::Failed { step, errno }) if step == START => {
                return Err(SandboxError::Start(std::io::Error::from_raw_os_error(errno)));
            }
            Ok(FromEnclosed::Failed { step, errno }) => return Err(explain(step, errno)),
            Err(errno) => return Err(SandboxError::Helper(errno.to_string())),
        }
    }
    listeners.ok_or_else(|| SandboxError::Helper("it ended before the program was started".to_owned()))
}
