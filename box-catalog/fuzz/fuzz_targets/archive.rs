//! An archive, which may be compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::archive(data));
