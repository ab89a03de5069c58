//! What the server keeps of a file, and takes from those who push.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_server::fuzzing::file_manifest(data));
