//! Frames of a WebSocket, in either direction and in any pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_inject::fuzzing::pipe(data));
