//! PVH's start information (Xen, public/arch-x86/hvm/start_info.h, version 1).

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Loaded;
use crate::arch::x86_64::layout::{Area, CMDLINE, PVH_INFO};
use crate::memory::GuestRam;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;

/// Writes the information for a kernel that was loaded.
///
/// # Errors
/// Where there is no memory at its place.
pub fn write(ram: &GuestRam, loaded: &Loaded, areas: &[Area], rsdp: u64) -> Result<(), GuestMemoryError> {
    let modules = PVH_INFO + INFO_SIZE;
    let map = modules + MODULE_SIZE;
    let mut bytes = Vec::new();
    let mut words = |words: &[u32]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let wide = |value: u64| [value as u32, (value >> 32) as u32];
    let count = u32::from(loaded.initrd.is_some());
    words(&[MAGIC, VERSION, 0, count]);
    for address in [if count > 0 { modules } else { 0 }, CMDLINE, rsdp, map] {
        words(&wide(address));
    }
    words(&[areas.len() as u32, 0]);
    let initrd = loaded.initrd.clone().unwrap_or_default();
    for value in [initrd.start, initrd.end - initrd.start, 0, 0] {
        words(&wide(value));
    }
    for area in areas {
        words(&wide(area.range.start));
        words(&wide(area.range.end - area.range.start));
        words(&[area.kind as u32, 0]);
    }
    ram.write_slice(&bytes, GuestAddress(PVH_INFO))
}
