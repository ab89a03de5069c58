//! A Vmfile.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_orchestrator::fuzzing::vmfile(data));
