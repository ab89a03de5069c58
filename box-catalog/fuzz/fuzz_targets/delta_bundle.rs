//! A bundle of chunks from a repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::delta_bundle(data));
