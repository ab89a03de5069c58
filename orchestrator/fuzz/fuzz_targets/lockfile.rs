//! A lock file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_orchestrator::fuzzing::lockfile(data));
