//! A `Range` header, names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_server::fuzzing::header(data));
