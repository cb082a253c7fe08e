//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::frame::{MAX_CALL_BYTES, read_frame, write_frame};
use std::io::Write;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

/// Frames as the keeper reads them from its socket, until one is none.
///
/// # Panics
/// When a frame is larger than it may be, or is another once it was written again.
pub fn frame(data: &[u8]) {
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        let Ok((mut ours, theirs)) = std::os::unix::net::UnixStream::pair() else { return };
        // What does not fit would block; a socket holds more than a fuzzer makes.
        if ours.set_nonblocking(true).is_err() || theirs.set_nonblocking(true).is_err() || ours.write_all(data).is_err()
        {
            return;
        }
        drop(ours);
        let Ok(socket) = UnixStream::from_std(theirs) else { return };
        while let Ok(Some(read)) = read_frame(&socket, MAX_CALL_BYTES).await {
            assert!(read.json.len() as u64 + read.raw.len() as u64 <= MAX_CALL_BYTES && read.fds.is_empty());
            let Ok((there, here)) = UnixStream::pair() else { return };
            let written = write_frame(&there, &read).await;
            let again = read_frame(&here, MAX_CALL_BYTES).await;
            assert!(written.is_ok(), "{written:?}");
            assert!(matches!(again, Ok(Some(again)) if again.json == read.json && again.raw == read.raw));
        }
    });
}
