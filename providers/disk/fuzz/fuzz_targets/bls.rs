//! What any two boot loader entries boot.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    posada_disk::fuzzing::bls(data);
});
