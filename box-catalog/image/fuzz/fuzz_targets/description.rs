//! The text that describes a machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_image::fuzzing::description(data));
