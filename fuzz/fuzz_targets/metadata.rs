//! The header of a skill, and the names in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_core::fuzzing::metadata(data));
