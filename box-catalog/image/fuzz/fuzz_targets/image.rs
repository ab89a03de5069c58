//! A disk image of any format.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_image::fuzzing::image(data));
