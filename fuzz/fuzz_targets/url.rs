//! Addresses of the web that an agent names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_dial::fuzzing::url(data));
