//! Reads more at a time than was asked for, where much comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read ahead, in bytes.
const AHEAD_BYTES: usize = 64 << 10;
/// After a read of at least so many bytes more of them are expected: what the TLS library asks for at a time.
const BUSY_BYTES: usize = 4 << 10;

/// A connection that is read in large pieces once a small one was not enough. The TLS library asks for 4 KiB at a time
/// (rustls, `READ_SIZE` of its deframer), which is five system calls for one record of a long reply.
///
/// Where little comes nothing is copied, and a connection that waits holds no memory for this; tokio's `BufReader` keeps
/// its buffer as long as it lives, and hundreds of idle streams have one each.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    /// Whether the last read brought much.
    is_busy: bool,
    /// What was read ahead; without memory while it is not busy, and while nothing comes.
    ahead: Vec<u8>,
    /// Where in it is what was read and not yet handed on.
    from: usize,
    until: usize,
}

impl<S> ReadAhead<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, is_busy: false, ahead: Vec::new(), from: 0, until: 0 }
    }

    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = self.ahead.get(self.from..self.until).unwrap_or_default();
        let now = left.get(..buffer.remaining()).unwrap_or(left);
        buffer.put_slice(now);
        self.from += now.len();
        if self.from == self.until && !self.is_busy {
            self.ahead = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.from == this.until {
            if !this.is_busy || buffer.remaining() >= AHEAD_BYTES {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
                this.is_busy = buffer.filled().len() - before >= BUSY_BYTES;
                return Poll::Ready(Ok(()));
            }
            this.ahead.resize(AHEAD_BYTES, 0);
            let mut space = ReadBuf::new(&mut this.ahead);
            let read = Pin::new(&mut this.inner).poll_read(cx, &mut space);
            (this.from, this.until) = (0, space.filled().len());
            if this.until == 0 {
                this.ahead = Vec::new();
            }
            ready!(read)?;
            this.is_busy = this.until >= BUSY_BYTES;
        }
        this.hand_on(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::AsyncReadExt;

    /// Gives what it has piece by piece, and counts how often it was asked.
    struct Pieces(VecDeque<Vec<u8>>, usize);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            let Some(piece) = self.0.front_mut() else { return Poll::Ready(Ok(())) };
            let now = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.drain(..now).collect::<Vec<_>>());
            if piece.is_empty() {
                self.0.pop_front();
            }
            Poll::Ready(Ok(()))
        }
    }

    /// All that comes, by reads of 4 KiB; how often the connection was asked; the most that was held meanwhile.
    async fn read(pieces: &[usize]) -> (Vec<u8>, usize, usize) {
        let all: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut rest = &all[..];
        let pieces = pieces.iter().map(|len| rest.split_off(..*len).unwrap().to_vec()).collect();
        let mut stream = ReadAhead::new(Pieces(pieces, 0));
        let (mut out, mut held) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            held = held.max(stream.ahead.capacity());
            out.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(out, all);
        assert_eq!(stream.ahead.capacity(), 0, "at its end it holds nothing");
        (out, stream.inner.1, held)
    }

    #[tokio::test]
    async fn much_is_read_in_large_pieces_and_little_as_it_comes() {
        let (_, asked, held) = read(&[1000, 20, 4095]).await;
        assert_eq!((asked, held), (4, 0), "each piece, and the end");
        let (_, asked, _) = read(&[10 * AHEAD_BYTES]).await;
        assert!(asked <= 13, "asked {asked} times for ten pieces");
        let (_, _, held) = read(&[4096, 10, 4096 + AHEAD_BYTES, 3, 4096]).await;
        assert_eq!(held, AHEAD_BYTES);
    }

    #[tokio::test]
    async fn a_connection_that_fell_silent_holds_nothing() {
        let mut stream = ReadAhead::new(Pieces([vec![1; 4096 + 100]].into(), 0));
        let mut buffer = [0; 4096];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4096);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 100);
        assert_eq!(stream.ahead.capacity(), 0);
    }
}
