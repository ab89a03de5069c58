//! The log of a VHDX that was not shut down cleanly.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_image::fuzzing::vhdx_log(data));
