//! The socket through which one container reaches the runner: it opens once.

use crate::link::{Link, watch};
use rustix::fs::{AtFlags, Mode, OFlags, chmodat, open, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// A listening socket that exists as a file; the file goes when this is dropped.
pub(super) struct Door {
    socket: AsyncFd<OwnedFd>,
    folder: OwnedFd,
    name: String,
    pub(super) path: PathBuf,
}

impl Door {
    /// Binds `name` in `folder`. The folder lets nobody else in, so the file itself may be for everybody: inside
    /// the container it is met by another user.
    pub(super) fn open(directory: &Path, name: &str) -> Result<Self, Errno> {
        let folder = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // An address has room for 108 bytes; the way over the descriptor is always short.
        bind(&socket, &SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?)?;
        chmodat(&folder, name, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        listen(&socket, 1)?;
        let socket = watch(socket).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Self { socket, folder, name: name.to_owned(), path: directory.join(name) })
    }

    /// Waits for the one that comes. Whoever comes later, with the job's code say, finds nobody.
    pub(super) async fn admit(&self) -> Result<Link, Errno> {
        loop {
            let mut ready = self.socket.readable().await.map_err(|_| Errno::IO)?;
            match ready.try_io(|fd| accept_with(fd.get_ref(), SocketFlags::CLOEXEC).map_err(Into::into)) {
                Ok(accepted) => {
                    return Link::new(accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?);
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}
