//! Replies of APIs whose usage is read as they pass.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_provider::fuzzing::reply(data));
