//! The master boot record: anything with its signature.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut disk = data.to_vec();
    if disk.len() >= 512 {
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    posada_disk::fuzzing::partitions(&disk);
});
