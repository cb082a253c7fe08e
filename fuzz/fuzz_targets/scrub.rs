//! No form of a value survives scrubbing, whatever is cut where.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_vault::fuzzing::scrub(data));
