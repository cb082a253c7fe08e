//! The runner's end of a socket to a process that it started: one packet at a time, without blocking.

use crate::wire::{Packet, receive, send};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::Serialize;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// A connected `SOCK_SEQPACKET` socket. Dropping it tells the other side that nobody is left.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<OwnedFd>,
}

impl Link {
    /// Takes over a connected socket. Must be called inside a tokio runtime.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        watch(socket).map(|socket| Self { socket }).map_err(|error| errno(&error))
    }

    /// Says one thing. Packets are few and small: a full socket is an error.
    pub(crate) fn tell<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send(self.socket.get_ref(), message, fds)
    }

    /// The next packet; `None` when the other side is gone.
    pub(crate) async fn hear(&self) -> Result<Option<Packet>, Errno> {
        loop {
            let mut ready = self.socket.readable().await.map_err(|_| Errno::IO)?;
            match ready.try_io(|fd| receive(fd.get_ref(), RecvFlags::empty()).map_err(Into::into)) {
                Ok(answer) => {
                    return match answer.map_err(|error| errno(&error)) {
                        Err(Errno::CONNRESET) => Ok(None),
                        other => other,
                    };
                }
                Err(_would_block) => {}
            }
        }
    }
}

/// Watches a descriptor for being readable.
#[allow(unsafe_code, reason = "tokio asks for a promise that an owned descriptor keeps by itself")]
pub(crate) fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same descriptor, until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
