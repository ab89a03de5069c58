//! A manifest or an index of a registry.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::oci_manifest(data));
