//! What code asks the name server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_inject::fuzzing::names(data));
