//! What a file is made of, in its binary form.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_chunks::fuzzing::chunk_manifest(data));
