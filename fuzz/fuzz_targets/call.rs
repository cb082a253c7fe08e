//! Calls of APIs: path and body, from which the model is read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_provider::fuzzing::call(data));
