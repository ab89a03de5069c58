//! Opening ext4: anything with its magic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Room for the boot block, and then the superblock with its magic.
    let mut disk = vec![0; 1024];
    disk.extend(data);
    if disk.len() > 1082 {
        disk[1080..1082].copy_from_slice(&[0x53, 0xef]);
    }
    posada_disk::fuzzing::disk(&disk);
});
