//! The kernel's address space layout randomization, which a kernel's own decompressor does where it runs
//! (Linux, arch/x86/boot/compressed/misc.c and kaslr.c). Here the monitor unpacks the kernel, so it does it.
//!
//! The list of places to be changed follows the ELF file: 32-bit numbers, each the low half of a virtual address, in
//! lists that each begin with a zero: places of 64 bits, then (before Linux 6.15) places of 32 bits that are changed
//! the other way round, then places of 32 bits.

use std::ops::Range;

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

use super::BootError;
use super::elf::Elf;
use crate::memory::GuestRam;

/// The low half of `__START_KERNEL_map`, where the kernel's image is mapped to.
const START_KERNEL_MAP: u32 = 0x8000_0000;
/// The virtual addresses that an image may be put into, from there on, where a kernel can be randomized at all
/// (`KERNEL_IMAGE_SIZE`).
const KERNEL_IMAGE_SIZE: u64 = 1 << 30;
/// What the kernel's 64-bit entry demands of its address (`PMD_MASK` in `__startup_64`).
pub const ALIGNMENT: u64 = 2 << 20;
/// More bytes of places than any kernel has.
pub const MAX_TABLE: u64 = 64 << 20;

/// The places to be changed, as offsets from the image's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocations {
    add_64: Vec<u32>,
    subtract_32: Vec<u32>,
    add_32: Vec<u32>,
}

impl Relocations {
    /// Reads what follows the ELF file `elf`; `None` where that is no list of places inside of the image.
    #[must_use]
    pub fn parse(tail: &[u8], elf: &Elf) -> Option<Self> {
        let size = elf.memory.end - elf.memory.start;
        let base = START_KERNEL_MAP.checked_add(u32::try_from(elf.memory.start).ok()?)?;
        let (words, rest) = tail.as_chunks::<4>();
        if !rest.is_empty() || words.first() != Some(&[0; 4]) {
            return None;
        }
        let mut lists: Vec<Vec<u32>> = Vec::new();
        for word in words {
            let word = u32::from_le_bytes(*word);
            if word == 0 {
                if lists.len() == 3 {
                    return None;
                }
                lists.push(Vec::new());
                continue;
            }
            let offset = word.checked_sub(base)?;
            let width = if lists.len() == 1 { 8 } else { 4 };
            if u64::from(offset) + width > size {
                return None;
            }
            lists.last_mut()?.push(offset);
        }
        let add_32 = lists.pop()?;
        let mut lists = lists.into_iter();
        let add_64 = lists.next()?;
        Some(Self { add_64, subtract_32: lists.next().unwrap_or_default(), add_32 })
    }

    /// Changes the image that was loaded at `start` so that it runs `delta` bytes above where it was linked to.
    ///
    /// # Errors
    /// [`BootError::Memory`] where the image is not in memory in one piece.
    pub fn apply(&self, ram: &GuestRam, start: u64, size: u64, delta: u64) -> Result<(), BootError> {
        // The image lies in low RAM, and the offsets in it were looked at.
        let image = ram.get_slice(GuestAddress(start), size as usize)?;
        let volatile = |error| BootError::Memory(vm_memory::GuestMemoryError::from(error));
        let delta_32 = delta as u32;
        for &offset in &self.add_64 {
            let place = image.get_ref::<u64>(offset as usize).map_err(volatile)?;
            place.store(place.load().wrapping_add(delta));
        }
        for &offset in &self.subtract_32 {
            let place = image.get_ref::<u32>(offset as usize).map_err(volatile)?;
            place.store(place.load().wrapping_sub(delta_32));
        }
        for &offset in &self.add_32 {
            let place = image.get_ref::<u32>(offset as usize).map_err(volatile)?;
            place.store(place.load().wrapping_add(delta_32));
        }
        Ok(())
    }
}

/// Where an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Its physical address.
    pub physical: u64,
    /// How far above its linked place it runs.
    pub virtual_delta: u64,
}

impl Placement {
    /// One of the places for an image linked to `memory`, of physical addresses below `limit`, chosen by two random
    /// numbers; `None` where it does not fit.
    #[must_use]
    pub fn choose(memory: &Range<u64>, limit: u64, random: [u64; 2]) -> Option<Self> {
        let physical = slot(memory, limit, random[0])?;
        let running = slot(memory, KERNEL_IMAGE_SIZE, random[1]).unwrap_or(memory.start);
        Some(Self { physical, virtual_delta: running - memory.start })
    }
}

/// One of the aligned addresses from the start of `memory` on where its size ends at `limit` or before.
fn slot(memory: &Range<u64>, limit: u64, random: u64) -> Option<u64> {
    let slots = limit.checked_sub(memory.end)? / ALIGNMENT + 1;
    Some(memory.start + random % slots * ALIGNMENT)
}
