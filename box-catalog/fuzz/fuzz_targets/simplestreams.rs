//! An index or a document of a simplestreams server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::simplestreams(data));
