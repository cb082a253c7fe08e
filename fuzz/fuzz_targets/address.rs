//! Hosts and addresses: one spelling each, and none of a machine's own.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth3_core::fuzzing::address(data));
