//! A qcow2 header and an L2 entry of any bytes: refused or read, never a panic.
//!
//! Run it with `scripts/fuzz.sh 60 qcow2_header`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| posada_vmm::block::fuzz_qcow2_header(bytes));
