//! A bundle of chunks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_server::fuzzing::bundle(data));
