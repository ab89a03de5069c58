//! The journal of a download.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_fetch::fuzzing::journal(data));
