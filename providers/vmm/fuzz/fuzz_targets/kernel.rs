//! Anything at all for a kernel and an initial RAM disk: nothing may panic, and what was loaded lies in memory.
//!
//! Run it with `scripts/fuzz.sh 60 kernel`.

#![no_main]

use std::io::Cursor;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use posada_vmm::arch::x86_64::boot::{Payload, load, unpack_initrd, unpack_kernel};
use posada_vmm::arch::x86_64::layout::{HIGH_MEMORY, Layout, RSDP};

const MEMORY: u64 = 64 << 20;

#[derive(Arbitrary, Debug)]
struct Input {
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
    cmdline: String,
}

fuzz_target!(|input: Input| {
    let _ = unpack_kernel(&input.kernel);
    if let Some(initrd) = &input.initrd {
        let _ = unpack_initrd(initrd);
    }
    let layout = Layout::new(MEMORY, 40).expect("so much memory fits");
    let ram = posada_vmm::memory::allocate(&layout.regions()).expect("the host has so much memory");
    let payload = Payload {
        kernel: Cursor::new(input.kernel),
        initrd: input.initrd.map(Cursor::new),
        cmdline: &input.cmdline,
    };
    if let Ok(loaded) = load(&ram, &layout, RSDP, payload) {
        assert!(loaded.kernel.start >= HIGH_MEMORY && loaded.kernel.end <= MEMORY);
        assert!(loaded.initrd.is_none_or(|initrd| loaded.kernel.end <= initrd.start && initrd.end <= MEMORY));
    }
});
