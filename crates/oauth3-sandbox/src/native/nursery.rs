//! The helper process that forks a guard for each sandbox, seen from the gateway.

use crate::init::INIT_SUBCOMMAND;
use crate::wire::send_bytes;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What goes with the descriptors of a new sandbox.
const NEW: &[u8] = b"new";
/// How often a helper is started again for one request, when it turns out to be gone.
const TRIES: u32 = 2;

/// Starts the helper at the first need, and again when it is gone.
#[derive(Debug)]
pub(super) struct Nursery {
    program: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    requests: Option<OwnedFd>,
    child: Option<Child>,
}

impl Nursery {
    pub(super) const fn new(program: PathBuf) -> Self {
        Self { program, running: Mutex::new(None) }
    }

    /// Asks for a guard with this control socket, standard output and standard error.
    pub(super) fn ask(&self, control: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Errno> {
        let fds: [BorrowedFd<'_>; 3] = [control.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = Err(Errno::PIPE);
        for _ in 0..TRIES {
            if running.is_none() {
                *running = Some(self.start()?);
            }
            let requests = running.as_ref().and_then(|running| running.requests.as_ref());
            result = requests.map_or(Err(Errno::PIPE), |requests| send_bytes(requests, NEW, &fds));
            match result {
                Err(Errno::PIPE | Errno::CONNRESET) => *running = None,
                _ => break,
            }
        }
        result
    }

    /// Starts the process: no argument but the subcommand, no environment, nothing but the socket.
    #[allow(clippy::disallowed_methods, reason = "sandboxes are started here")]
    fn start(&self) -> Result<Running, Errno> {
        let (requests, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let child = Command::new(&self.program)
            .arg(INIT_SUBCOMMAND)
            .env_clear()
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        tracing::debug!("sandbox helper started");
        Ok(Running { requests: Some(requests), child: Some(child) })
    }
}

impl Drop for Running {
    /// The helper leaves when its socket closes; somebody has to wait for it.
    fn drop(&mut self) {
        self.requests.take();
        if let Some(mut child) = self.child.take()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            std::thread::spawn(move || child.wait());
        }
    }
}
