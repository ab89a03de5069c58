//! Requests, one after the other, with a byte 0x1e between them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_server::fuzzing::requests(data));
