//! An archive or an image that is unpacked, in a directory in memory.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(
    init: {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let place = parent.join(format!("posada-fuzz-unpack-{}/inside", std::process::id()));
        std::fs::create_dir_all(&place).expect("a directory to unpack in");
        std::env::set_current_dir(place).expect("a directory to unpack in");
    },
    |data: &[u8]| {
        posada_box_catalog::fuzzing::unpack(data);
        let beside = std::fs::read_dir("..").expect("the directory above").count();
        assert_eq!(beside, 1, "something came out of the directory");
    }
);
