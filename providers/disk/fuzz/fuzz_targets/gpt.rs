//! The GUID partition table: anything behind its signature.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // A sector that leads past the master boot record.
    let mut disk = vec![0; 512];
    disk.extend(b"EFI PART");
    disk.extend(data);
    posada_disk::fuzzing::partitions(&disk);
});
