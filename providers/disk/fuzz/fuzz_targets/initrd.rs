//! An initial RAM file system: archives, plain and compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| posada_disk::fuzzing::initrd(data));
