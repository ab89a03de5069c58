#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posada_chunks::fuzzing::manifest(bytes));
