//! Frames: a header of three lengths, JSON, raw bytes, and the descriptors that travel with them.

use crate::WireError;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Largest frame that the keeper reads, in bytes (2 MiB).
pub const MAX_CALL_BYTES: u64 = 2 << 20;
/// Largest frame that the gateway reads, in bytes (40 MiB): a run's output fits.
pub const MAX_REPLY_BYTES: u64 = 40 << 20;
/// Most descriptors in one frame. A listener per distinct port of a request's hosts, a few more, two pipes.
/// (Linux itself passes at most 253.)
pub const MAX_FDS: usize = 200;
/// Three lengths, little endian: JSON bytes, raw bytes, descriptors.
const HEADER_BYTES: usize = 12;

/// One frame.
#[derive(Default)]
pub(crate) struct Frame {
    /// The message.
    pub(crate) json: Vec<u8>,
    /// Bytes that go beside it as they are: a secret's value, a run's output.
    pub(crate) raw: Zeroizing<Vec<u8>>,
    /// Descriptors that go with it.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Reads the next frame; `None` when the other side hung up between two.
/// The socket is of no use any more after an error, or when the future is dropped half way.
pub(crate) async fn read_frame(socket: &UnixStream, max_bytes: u64) -> Result<Option<Frame>, WireError> {
    let mut fds = Vec::new();
    let mut header = [0u8; HEADER_BYTES];
    if !fill(socket, &mut header, &mut fds).await? {
        return Ok(None);
    }
    let [json_len, raw_len, fd_count] = lengths(header);
    let size = u64::from(json_len) + u64::from(raw_len);
    if size > max_bytes {
        return Err(WireError::TooLarge(size));
    }
    let mut json = vec![0u8; json_len as usize];
    let mut raw = Zeroizing::new(vec![0u8; raw_len as usize]);
    for part in [&mut json, &mut *raw] {
        if !part.is_empty() && !fill(socket, part, &mut fds).await? {
            return Err(WireError::Io(ErrorKind::UnexpectedEof.into()));
        }
    }
    if fds.len() != fd_count as usize {
        return Err(WireError::Junk("not the descriptors that were announced"));
    }
    Ok(Some(Frame { json, raw, fds }))
}

/// Writes one frame. The descriptors go with its first byte.
pub(crate) async fn write_frame(socket: &UnixStream, frame: &Frame) -> Result<(), WireError> {
    let too_large = |_| WireError::TooLarge((frame.json.len() + frame.raw.len()) as u64);
    let json_len = u32::try_from(frame.json.len()).map_err(too_large)?;
    let raw_len = u32::try_from(frame.raw.len()).map_err(too_large)?;
    if frame.fds.len() > MAX_FDS {
        return Err(WireError::Junk("too many descriptors"));
    }
    let fd_count = u32::try_from(frame.fds.len()).unwrap_or(u32::MAX);
    let mut header = [0u8; HEADER_BYTES];
    for (place, number) in header.chunks_exact_mut(4).zip([json_len, raw_len, fd_count]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let mut fds = &frame.fds[..];
    for part in [&header[..], &frame.json, &frame.raw] {
        let mut rest = part;
        while !rest.is_empty() {
            socket.ready(Interest::WRITABLE).await?;
            let sent = match socket.try_io(Interest::WRITABLE, || send(socket, rest, fds)) {
                Ok(sent) => sent,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(error) => return Err(error.into()),
            };
            // What was sent, was sent with all of them.
            fds = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
    Ok(())
}

fn lengths(header: [u8; HEADER_BYTES]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = header;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

/// Fills `buffer`; false when the other side hung up before its first byte.
async fn fill(socket: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<bool, WireError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        socket.ready(Interest::READABLE).await?;
        match socket.try_io(Interest::READABLE, || receive(socket, rest, fds)) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(WireError::Io(ErrorKind::UnexpectedEof.into())),
            Ok(count) => done += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        if fds.len() > MAX_FDS {
            return Err(WireError::Junk("too many descriptors"));
        }
    }
    Ok(true)
}

fn receive(socket: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Error> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Error::new(ErrorKind::InvalidData, "descriptors were lost: too many, or no room for more"));
    }
    Ok(got.bytes)
}

fn send(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Error> {
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Error::new(ErrorKind::InvalidInput, "too many descriptors"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}
