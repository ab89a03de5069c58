//! Linux's `boot_params`, the "zero page" (Documentation/arch/x86/zero-page.rst and boot.rst).

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Loaded;
use crate::arch::x86_64::layout::{Area, CMDLINE, ZERO_PAGE};
use crate::memory::GuestRam;

const SIZE: usize = 4096;

/// Offsets in the page.
const ACPI_RSDP: usize = 0x70;
const E820_COUNT: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
/// The setup header, of which a bzImage brings its own.
pub const SETUP_HEADER: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADER: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMDLINE_POINTER: usize = 0x228;
const KERNEL_ALIGNMENT: usize = 0x230;
const CMDLINE_SIZE: usize = 0x238;

/// "HdrS".
pub const MAGIC: [u8; 4] = *b"HdrS";
/// A boot loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xff;
const LOADED_HIGH: u8 = 1;
/// The kernel's addresses were randomized.
const KASLR_FLAG: u8 = 1 << 1;

/// What is told besides what was loaded.
pub struct Told<'a> {
    /// The setup header of a bzImage, from [`SETUP_HEADER`] on.
    pub header: Option<&'a [u8]>,
    /// Whether the addresses were randomized.
    pub randomized: bool,
    /// The memory map.
    pub areas: &'a [Area],
    /// Where the RSDP is.
    pub rsdp: u64,
}

/// Writes the page for a kernel that was loaded.
///
/// # Errors
/// Where there is no memory at its place.
pub fn write(ram: &GuestRam, loaded: &Loaded, told: &Told<'_>) -> Result<(), GuestMemoryError> {
    let mut page = [0u8; SIZE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    match told.header {
        Some(header) => put(SETUP_HEADER, header),
        None => {
            put(BOOT_FLAG, &0xaa55u16.to_le_bytes());
            put(HEADER_MAGIC, &MAGIC);
            put(VERSION, &0x20fu16.to_le_bytes());
            put(KERNEL_ALIGNMENT, &(super::kaslr::ALIGNMENT as u32).to_le_bytes());
            put(CMDLINE_SIZE, &(super::LINUX_CMDLINE as u32).to_le_bytes());
        }
    }
    let flags = LOADED_HIGH | if told.randomized { KASLR_FLAG } else { 0 };
    put(LOADER, &[UNDEFINED_LOADER]);
    put(LOAD_FLAGS, &[flags]);
    put(CMDLINE_POINTER, &(CMDLINE as u32).to_le_bytes());
    if let Some(initrd) = &loaded.initrd {
        // It lies below 4 GiB.
        put(RAMDISK_IMAGE, &(initrd.start as u32).to_le_bytes());
        put(RAMDISK_SIZE, &((initrd.end - initrd.start) as u32).to_le_bytes());
    }
    put(ACPI_RSDP, &told.rsdp.to_le_bytes());
    put(E820_COUNT, &[told.areas.len() as u8]);
    for (area, at) in told.areas.iter().zip((E820_TABLE..).step_by(20)) {
        put(at, &area.range.start.to_le_bytes());
        put(at + 8, &(area.range.end - area.range.start).to_le_bytes());
        put(at + 16, &(area.kind as u32).to_le_bytes());
    }
    ram.write_slice(&page, GuestAddress(ZERO_PAGE))
}
