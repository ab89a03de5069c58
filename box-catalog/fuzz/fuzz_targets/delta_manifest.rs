//! What a file of a repository is made of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::delta_manifest(data));
