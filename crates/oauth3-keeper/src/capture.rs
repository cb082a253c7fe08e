//! What code writes to its standard output and error: scrubbed while it comes, bounded, drained to the end.

use oauth3_vault::{ScrubStream, Scrubber};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// One pipe being read. Dropping it stops the reading.
pub(crate) struct Capture {
    kept: Arc<Mutex<Kept>>,
    reader: JoinHandle<()>,
}

struct Kept {
    /// `None` once the stream is over, or nothing more is kept.
    scrub: Option<ScrubStream>,
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl Capture {
    /// Begins to read. At most `limit` bytes are kept; what comes after is read and dropped, so that the code never
    /// waits for us.
    pub(crate) fn start(pipe: OwnedFd, scrubber: &Scrubber, limit: u64) -> io::Result<Self> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(oauth3_wire::MAX_OUTPUT_BYTES);
        let kept = Kept { scrub: Some(scrubber.stream()), bytes: Vec::new(), limit, truncated: false };
        let kept = Arc::new(Mutex::new(kept));
        let reader = tokio::spawn(read_all(pipe, Arc::clone(&kept)));
        Ok(Self { kept, reader })
    }

    /// The scrubbed text and whether anything is missing from it. Waits for the end of the pipe, but not longer than
    /// `grace`: a process that kept the other end open must not hold us up.
    pub(crate) async fn finish(mut self, grace: Duration) -> (String, bool) {
        let ended = tokio::time::timeout(grace, &mut self.reader).await.is_ok();
        self.reader.abort();
        let mut kept = lock(&self.kept);
        kept.end();
        kept.truncated |= !ended;
        let mut text = String::from_utf8_lossy(&kept.bytes).into_owned();
        if text.len() > kept.limit {
            // Replacement characters are longer than what they replace.
            text.truncate(text.floor_char_boundary(kept.limit));
            kept.truncated = true;
        }
        (text, kept.truncated)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Kept {
    fn add(&mut self, chunk: &[u8]) {
        match &mut self.scrub {
            Some(scrub) => scrub.push(chunk, &mut self.bytes),
            None => self.truncated |= !chunk.is_empty(),
        }
        self.bound();
    }

    fn end(&mut self) {
        if let Some(scrub) = self.scrub.take() {
            scrub.finish(&mut self.bytes);
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.bytes.len() > self.limit {
            self.bytes.truncate(self.limit);
            self.truncated = true;
            self.scrub = None;
        }
    }
}

async fn read_all(mut pipe: Receiver, kept: Arc<Mutex<Kept>>) {
    let mut buffer = Zeroizing::new(vec![0u8; READ_BYTES]);
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => lock(&kept).add(buffer.get(..count).unwrap_or_default()),
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "a run's output cannot be read");
                lock(&kept).truncated = true;
                return;
            }
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_vault::{Lease, SecretBytes};
    use std::io::{Write, pipe};

    const GRACE: Duration = Duration::from_secs(20);

    fn scrubber() -> Scrubber {
        let value = SecretBytes::new(b"swordfish-swordfish-1".to_vec());
        let placeholder = "placeholder-placehold".into();
        Scrubber::new(&[Lease::of_value("KEY".parse().unwrap(), Default::default(), placeholder, value)])
    }

    async fn captured(parts: &[&[u8]], limit: u64) -> (String, bool) {
        let (read, mut write) = pipe().unwrap();
        let capture = Capture::start(read.into(), &scrubber(), limit).unwrap();
        let parts: Vec<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
        tokio::task::spawn_blocking(move || parts.iter().for_each(|p| write.write_all(p).unwrap())).await.unwrap();
        capture.finish(GRACE).await
    }

    #[tokio::test]
    async fn a_value_that_is_cut_between_writes_is_scrubbed() {
        let parts: [&[u8]; 3] = [b"a swordfish-", b"swordfish", b"-1 b sword"];
        assert_eq!(captured(&parts, 1000).await, ("a placeholder-placehold b sword".into(), false));
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_is_drained_and_said() {
        let flood = vec![b'x'; 1 << 20];
        assert_eq!(captured(&[&flood], 10).await, ("x".repeat(10), true));
        assert_eq!(captured(&[b"0123456789"], 10).await, ("0123456789".into(), false));
        assert_eq!(captured(&[b"0123456789a"], 10).await, ("0123456789".into(), true));
        // The cut goes through a value: neither its front nor its back shows.
        assert_eq!(captured(&[b"swordfish-swordfish-1"], 5).await, ("place".into(), true));
        assert_eq!(captured(&[b"\xff\xff\xff\xff"], 10).await, ("\u{fffd}\u{fffd}\u{fffd}".into(), true));
    }

    #[tokio::test]
    async fn a_pipe_that_stays_open_does_not_hold_up_the_end() {
        let (read, mut write) = pipe().unwrap();
        write.write_all(b"so far\nsword").unwrap();
        let capture = Capture::start(read.into(), &scrubber(), 100).unwrap();
        while lock(&capture.kept).bytes.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(capture.finish(Duration::from_millis(1)).await, ("so far\nsword".into(), true));
        drop(write);
    }
}
