//! A file of checksums.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_fetch::fuzzing::sums(data));
