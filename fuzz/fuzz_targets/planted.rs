//! No target but a planted fault: a run that does not find it says nothing about the targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.get(4..7) == Some(b"\xC4\x7Fz") {
        panic!("the planted fault");
    }
});
