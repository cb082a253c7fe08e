//! The head of a request: where it goes, and what is left of its fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_inject::fuzzing::head(data));
