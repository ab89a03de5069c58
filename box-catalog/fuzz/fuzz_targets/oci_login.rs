//! What a registry wants to be shown, and what it answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::oci_login(data));
