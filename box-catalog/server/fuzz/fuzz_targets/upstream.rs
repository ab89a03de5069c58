//! The document of another catalog.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_server::fuzzing::upstream(data));
