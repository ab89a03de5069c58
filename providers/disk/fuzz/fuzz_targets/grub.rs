//! What GRUB would boot by any configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    posada_disk::fuzzing::grub(data);
});
