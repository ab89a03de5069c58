//! A driver that does anything at all to a balloon. Nothing may panic, and a reset must come back.
//!
//! Run it with `scripts/fuzz.sh 60 balloon`.

#![no_main]

mod driver;

use driver::{Driver, Step};
use libfuzzer_sys::fuzz_target;
use posada_vmm::virtio::VirtioDevice;
use posada_vmm::virtio::balloon::Balloon;

fuzz_target!(|steps: Vec<Step>| {
    let (mut balloon, handle) = Balloon::new();
    let mut driver = Driver::new(&mut balloon);
    for (at, step) in steps.into_iter().enumerate() {
        handle.set_target((at as u64) << 20);
        driver.step(step);
    }
    balloon.reset();
    assert_eq!(handle.actual(), 0);
});
