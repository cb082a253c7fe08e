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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn every_kept_input_holds() {
        let kept = kept("frame");
        assert!(!kept.is_empty());
        kept.iter().for_each(|data| super::frame(data));
    }

    proptest! {
        // Each makes a socket.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::frame(&data);
        }

        #[test]
        fn anything_like_frames_holds(frames in proptest::collection::vec((0_u32..64, 0_u32..64, proptest::collection::vec(any::<u8>(), 0..64)), 0..4)) {
            let mut data = Vec::new();
            for (json, raw, bytes) in frames {
                data.extend(json.to_be_bytes());
                data.extend(raw.to_be_bytes());
                data.extend(bytes);
            }
            super::frame(&data);
        }
    }
}
