//! What the keeper reads from its socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_wire::fuzzing::frame(data));
