//! Both directions of one WebSocket, until either ends.

use super::frame::{Fault, Opcode};
use super::pipe::{Inspect, Pipe, Side, write_frame};
use crate::limits::{CLOSE_TIMEOUT, READ_BYTES, WEBSOCKET_IDLE_TIMEOUT};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until, timeout};

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By a close frame, which has passed.
    Closed,
    /// The one who sends hung up, or the one who receives.
    Gone,
    /// By us.
    Fault(Fault),
}

/// What came of each side, in bytes, heads of frames included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// From the client to the host.
    pub sent: u64,
    /// From the host to the client.
    pub received: u64,
}

/// Carries frames both ways, looked at on their way, until a side closes or hangs up, either breaks the rules,
/// nothing came for [`WEBSOCKET_IDLE_TIMEOUT`], or `until` is ready.
pub(crate) async fn relay<C, H>(
    code: C,
    upstream: H,
    looking_up: impl Inspect,
    looking_down: impl Inspect,
    until: impl Future<Output = ()>,
) -> Traffic
where
    C: AsyncRead + AsyncWrite + Unpin,
    H: AsyncRead + AsyncWrite + Unpin,
{
    let (from_code, to_code) = split(code);
    let (from_host, to_host) = split(upstream);
    let mut to_code = Outgoing::new(Side::Host, to_code);
    let mut to_host = Outgoing::new(Side::Code, to_host);
    let heard = Heard::default();
    let (side, end) = {
        let up = pin!(carry(from_code, &mut to_host, Pipe::new(Side::Code, looking_up), &heard.up, &heard));
        let down = pin!(carry(from_host, &mut to_code, Pipe::new(Side::Host, looking_down), &heard.down, &heard));
        tokio::select! {
            ended = first_end(up, down, &heard) => ended,
            () = until => (None, End::Fault(Fault::TakenBack)),
        }
    };
    let (by_code, by_host) = match (end, side) {
        (End::Closed, _) => (None, None),
        (End::Gone, Some(Side::Code)) => (None, Some(Fault::GoingAway)),
        // A code that hung up on hears nothing from us: it should see what happened.
        (End::Gone, _) => (None, None),
        (End::Fault(fault), Some(Side::Code)) => (Some(fault), Some(Fault::GoingAway)),
        (End::Fault(fault), Some(Side::Host)) => (Some(Fault::GoingAway), Some(fault)),
        (End::Fault(fault), None) => (Some(fault), Some(fault)),
    };
    tracing::debug!(?side, ?end, "WebSocket ended");
    let farewell = async { tokio::join!(to_code.end(by_code), to_host.end(by_host)) };
    let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    Traffic { sent: heard.up.load(Ordering::Relaxed), received: heard.down.load(Ordering::Relaxed) }
}

/// Which direction ended first and how; after a close frame the other one gets some time for its own.
async fn first_end(
    mut up: std::pin::Pin<&mut impl Future<Output = End>>,
    mut down: std::pin::Pin<&mut impl Future<Output = End>>,
    heard: &Heard,
) -> (Option<Side>, End) {
    tokio::select! {
        end = &mut up => {
            if end == End::Closed {
                let _ = timeout(CLOSE_TIMEOUT, down).await;
            }
            (Some(Side::Code), end)
        }
        end = &mut down => {
            if end == End::Closed {
                let _ = timeout(CLOSE_TIMEOUT, up).await;
            }
            (Some(Side::Host), end)
        }
        () = heard.silence() => (None, End::Fault(Fault::GoingAway)),
    }
}

async fn carry<R, W, I>(mut from: R, to: &mut Outgoing<W>, mut pipe: Pipe<I>, bytes: &AtomicU64, heard: &Heard) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    I: Inspect,
{
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return End::Gone,
            Ok(length) => length,
        };
        heard.now();
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        let read = pipe.push(buffer.get(..length).unwrap_or_default(), &mut to.waiting);
        if to.flush().await.is_err() {
            return End::Gone;
        }
        match read {
            Err(fault) => return End::Fault(fault),
            Ok(()) if pipe.closed() => return End::Closed,
            Ok(()) => {}
        }
    }
}

/// Whole frames on their way to one side. A write that is given up loses no place within a frame.
struct Outgoing<W> {
    /// Whose frames these are.
    from: Side,
    to: W,
    waiting: Vec<u8>,
    sent: usize,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    fn new(from: Side, to: W) -> Self {
        Self { from, to, waiting: Vec::new(), sent: 0 }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.to.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
        }
        self.waiting.clear();
        self.sent = 0;
        self.to.flush().await
    }

    /// Says why, when it is we who end it, and hangs up.
    async fn end(&mut self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            let mut payload = fault.code().to_be_bytes().to_vec();
            payload.extend_from_slice(fault.reason().as_bytes());
            write_frame(self.from, true, Opcode::Close, &mut payload, &mut self.waiting);
        }
        let _ = self.flush().await;
        let _ = self.to.shutdown().await;
    }
}

/// When something came last, in either direction, and how much of each.
struct Heard {
    last: Mutex<Instant>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { last: Mutex::new(Instant::now()), up: AtomicU64::default(), down: AtomicU64::default() }
    }
}

impl Heard {
    fn now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing came for too long.
    async fn silence(&self) {
        loop {
            let until = self.last() + WEBSOCKET_IDLE_TIMEOUT;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn silence_of_both_sides_ends_a_websocket_and_a_word_of_either_does_not() {
        let begun = Instant::now();
        let heard = Heard::default();
        let almost = WEBSOCKET_IDLE_TIMEOUT - Duration::from_secs(1);
        let up = async {
            // Something comes just in time, twice; then nothing.
            for _ in 0..2 {
                tokio::time::sleep(almost).await;
                heard.now();
            }
            pending::<End>().await
        };
        let ended = first_end(pin!(up), pin!(pending::<End>()), &heard).await;
        assert_eq!(ended, (None, End::Fault(Fault::GoingAway)));
        assert_eq!(begun.elapsed().as_secs(), (almost * 2 + WEBSOCKET_IDLE_TIMEOUT).as_secs());
    }
}
