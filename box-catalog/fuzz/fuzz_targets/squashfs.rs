//! A root file system as a squashfs image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_box_catalog::fuzzing::squashfs(data));
