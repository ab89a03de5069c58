//! Where everything lies: the guest-physical address map, I/O ports, interrupt lines.
//!
//! ```text
//!   0x0000_0000  low RAM: boot structures, command line      0x0010_0000  low RAM: kernel, initrd
//!   0x000e_0000  ACPI tables (RAM, reported as such)         0xc000_0000  PCI memory, 32-bit
//!   0xe000_0000  ECAM, bus 0                                 0xfec0_0000  IOAPIC, LAPIC, KVM's own pages
//!   4 GiB        high RAM                                    behind it    PCI memory, 64-bit
//! ```

use std::ops::Range;

use vm_memory::GuestAddress;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The global descriptor table that the boot processor starts with.
pub const BOOT_GDT: u64 = 0x500;
/// The (empty) interrupt descriptor table that the boot processor starts with.
pub const BOOT_IDT: u64 = 0x580;
/// PVH's `hvm_start_info`, then its module list and memory map.
pub const PVH_INFO: u64 = 0x6000;
/// Linux's `boot_params`, the "zero page".
pub const ZERO_PAGE: u64 = 0x7000;
/// The first stack of the boot processor grows down from here.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Page tables that map the first 4 GiB to themselves: PML4, PDPT, four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;
/// The most bytes of command line that are given to any kernel, its closing zero included.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// Where RAM for everybody's use ends below 1 MiB: what a PC calls the extended BIOS data area.
pub const EBDA: u64 = 0x9_fc00;
/// The RSDP, followed by the other ACPI tables, where every kernel looks.
pub const RSDP: u64 = 0xe_0000;
/// Where the ACPI tables must end.
pub const ACPI_END: u64 = 0x10_0000;
/// RAM that kernel and initrd are loaded into begins here.
pub const HIGH_MEMORY: u64 = MIB;

/// Where low RAM ends and the hole for devices begins.
pub const HOLE: u64 = 0xc000_0000;
/// Memory of PCI devices that must lie below 4 GiB.
pub const PCI_32: Range<u64> = HOLE..ECAM.start;
/// Configuration space of PCI bus 0 (PCI Express 5.0, section 7.2.2): 32 devices of 8 functions, a page each.
pub const ECAM: Range<u64> = 0xe000_0000..0xe000_0000 + MIB;
/// The buses in [`ECAM`].
pub const PCI_BUSES: u8 = 1;
/// The I/O interrupt controller's registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Each processor's local interrupt controller.
pub const LAPIC: u64 = 0xfee0_0000;
/// The page for `KVM_SET_IDENTITY_MAP_ADDR`.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// The three pages for `KVM_SET_TSS_ADDR`.
pub const KVM_TSS: u64 = 0xfffb_d000;
/// High RAM begins here.
pub const FOUR_GIB: u64 = 4 * GIB;

/// The largest window for 64-bit PCI memory.
const PCI_64_MAX: u64 = 64 * GIB;

/// The PCI configuration mechanism of old (PCI Local Bus 3.0, section 3.2.2.3.2).
pub const PCI_CONFIG_PORTS: Range<u64> = 0xcf8..0xd00;
/// The first serial line, a 16550.
pub const COM1_PORTS: Range<u64> = 0x3f8..0x400;
/// Its interrupt line.
pub const COM1_GSI: u32 = 4;
/// The pin of the I/O APIC that the timer's line, 0, is wired to; no other line leads there.
pub const TIMER_PIN: u32 = 2;
/// The power registers ([`super::power::PowerBlock`]): PM1a event block at 0, PM1a control at 4, reset at 8.
pub const POWER_PORTS: Range<u64> = 0x600..0x609;
/// The interrupt line of ACPI events; level-triggered, active high.
pub const SCI_GSI: u32 = 9;
/// Offset of the PM1a event block in [`POWER_PORTS`] (ACPI 6.5, section 4.8.3.1).
pub const PM1A_EVENT: u64 = 0;
/// Offset of the PM1a control block (ACPI 6.5, section 4.8.3.2).
pub const PM1A_CONTROL: u64 = 4;
/// Offset of the reset register (ACPI 6.5, section 4.8.3.6).
pub const RESET_REGISTER: u64 = 8;
/// What resets the machine when written to the reset register.
pub const RESET_VALUE: u8 = 6;
/// `SLP_TYP` of S5, soft off.
pub const SLEEP_TYPE_S5: u8 = 5;
/// The keyboard controller's ports; of the controller itself only the reset line is there.
pub const I8042_PORTS: Range<u64> = 0x60..0x65;
/// Where the guest says that its kernel gave up (QEMU's pvpanic).
pub const PVPANIC_PORTS: Range<u64> = 0x505..0x506;
/// The reset control register of PC chipsets; it lies inside of [`PCI_CONFIG_PORTS`], so their device has to pass it on.
pub const CF9_PORT: u64 = 0xcf9;

/// What can be wrong with an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There is no place for it and for PCI devices.
    #[error(
        "{memory} bytes of memory do not fit the {bits}-bit physical addresses of this processor; give the machine less"
    )]
    TooLarge {
        /// What was asked for, bytes.
        memory: u64,
        /// Physical address bits.
        bits: u8,
    },
    /// Less than a kernel can begin with.
    #[error("{0} bytes of memory are too little for a machine; give it at least 64 MiB")]
    TooSmall(u64),
}

/// The kinds of addresses that a kernel is told of (ACPI 6.5, section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum AreaKind {
    /// Usable RAM.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
    /// Tables, to be kept.
    Acpi = 3,
}

/// A range of addresses in the memory map that a kernel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Its addresses.
    pub range: Range<u64>,
    /// What it is.
    pub kind: AreaKind,
}

/// The places that depend on how much memory a machine has and how wide its addresses are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    memory: u64,
    pci_64: Range<u64>,
}

impl Layout {
    /// The map of a machine with `memory` bytes and physical addresses of `bits` bits ([`super::cpu::address_bits`]).
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(memory: u64, bits: u8) -> Result<Self, LayoutError> {
        if memory < 16 * MIB {
            return Err(LayoutError::TooSmall(memory));
        }
        let too_large = || LayoutError::TooLarge { memory, bits };
        let limit = 1u64.checked_shl(bits.into()).filter(|_| bits <= 52).ok_or_else(too_large)?;
        let ram_end = FOUR_GIB.checked_add(memory.saturating_sub(HOLE)).ok_or_else(too_large)?;
        let start = ram_end.checked_next_multiple_of(GIB).ok_or_else(too_large)?;
        let end = limit.min(start.saturating_add(PCI_64_MAX));
        if end < start.saturating_add(GIB) {
            return Err(too_large());
        }
        Ok(Self { memory, pci_64: start..end })
    }

    /// Memory of PCI devices above 4 GiB and RAM; aligned to 1 GiB, at least 1 GiB.
    #[must_use]
    pub fn pci_64(&self) -> Range<u64> {
        self.pci_64.clone()
    }

    /// Where RAM is.
    #[must_use]
    pub fn regions(&self) -> Vec<(GuestAddress, usize)> {
        memory_regions(self.memory)
    }

    /// The end of RAM below 4 GiB.
    #[must_use]
    pub fn low_ram_end(&self) -> u64 {
        self.memory.min(HOLE)
    }

    /// The memory map that the kernel is told, in ascending order.
    #[must_use]
    pub fn areas(&self) -> Vec<Area> {
        let mut areas = vec![
            Area { range: 0..EBDA, kind: AreaKind::Ram },
            Area { range: RSDP..ACPI_END, kind: AreaKind::Acpi },
            Area { range: HIGH_MEMORY..self.low_ram_end(), kind: AreaKind::Ram },
            // Linux uses ECAM only where it lies in a reserved area.
            Area { range: ECAM, kind: AreaKind::Reserved },
            Area { range: KVM_IDENTITY_MAP..KVM_TSS + 0x3000, kind: AreaKind::Reserved },
        ];
        if self.memory > HOLE {
            areas.push(Area { range: FOUR_GIB..FOUR_GIB + (self.memory - HOLE), kind: AreaKind::Ram });
        }
        areas
    }
}

/// Where the RAM of a machine with `size` bytes is: below the hole, and what is left from 4 GiB on.
#[must_use]
pub fn memory_regions(size: u64) -> Vec<(GuestAddress, usize)> {
    // This module is compiled for 64-bit machines only.
    let mut regions = vec![(GuestAddress(0), size.min(HOLE) as usize)];
    if size > HOLE {
        regions.push((GuestAddress(FOUR_GIB), (size - HOLE) as usize));
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_ram_around_the_hole() {
        assert_eq!(memory_regions(HOLE), [(GuestAddress(0), 3 << 30)]);
        assert_eq!(
            memory_regions(HOLE + MIB),
            [(GuestAddress(0), 3 << 30), (GuestAddress(FOUR_GIB), 1 << 20)]
        );
    }

    #[test]
    fn areas_are_disjoint_and_hold_all_ram() {
        for memory in [64 * MIB, 3 * GIB, 3 * GIB + 2 * MIB, 100 * GIB] {
            let layout = Layout::new(memory, 46).unwrap();
            let areas = layout.areas();
            for pair in areas.windows(2) {
                assert!(pair[0].range.end <= pair[1].range.start, "{pair:x?}");
            }
            let ram: u64 = areas
                .iter()
                .filter(|area| area.kind == AreaKind::Ram)
                .map(|area| area.range.end - area.range.start)
                .sum();
            assert_eq!(ram, memory - (HIGH_MEMORY - EBDA));
            let pci = layout.pci_64();
            assert!(areas.iter().all(|area| area.range.end <= pci.start));
            assert_eq!((pci.start % GIB, pci.end - pci.start), (0, 64 * GIB));
        }
    }

    #[test]
    fn the_window_stays_within_the_processors_addresses() {
        assert_eq!(Layout::new(GIB, 36).unwrap().pci_64(), 4 * GIB..64 * GIB);
        assert!(matches!(Layout::new(63 * GIB, 36), Err(LayoutError::TooLarge { bits: 36, .. })));
        assert!(matches!(Layout::new(u64::MAX, 52), Err(LayoutError::TooLarge { .. })));
        assert!(matches!(Layout::new(GIB, 200), Err(LayoutError::TooLarge { .. })));
        assert!(matches!(Layout::new(MIB, 46), Err(LayoutError::TooSmall(_))));
    }
}
