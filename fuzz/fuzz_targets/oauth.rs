//! Replies of authorization servers, and everything else that comes from there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_oauth::fuzzing::oauth(data));
