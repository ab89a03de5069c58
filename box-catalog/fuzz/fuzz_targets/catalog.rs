//! A document of a catalog of Vagrant's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::catalog(data));
