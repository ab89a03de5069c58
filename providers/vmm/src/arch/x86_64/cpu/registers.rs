//! The registers that a kernel is entered with, and the descriptor and page tables they point to.
//!
//! - Linux, 64-bit (Documentation/arch/x86/boot.rst, "64-bit boot protocol"): long mode, the first 4 GiB mapped to
//!   themselves, flat `__BOOT_CS` (0x10) and `__BOOT_DS` (0x18), RSI at `boot_params`.
//! - PVH (Xen, docs/misc/pvh.pandoc): 32-bit protected mode without paging, flat segments, EBX at `hvm_start_info`.

use kvm_bindings::{kvm_lapic_state, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::boot::Entry;
use crate::arch::x86_64::layout::{BOOT_GDT, BOOT_IDT, BOOT_STACK, PAGE_TABLES};
use crate::memory::GuestRam;

/// A flat segment: selector, access byte (Intel SDM, volume 3, section 3.4.5), whether it is 64-bit code.
struct Flat(u16, u8, bool);

const CODE_64: Flat = Flat(0x10, 0x9b, true);
const CODE_32: Flat = Flat(0x10, 0x9b, false);
const DATA: Flat = Flat(0x18, 0x93, false);
/// A busy 32-bit task state segment, one page long, as VMX wants one.
const TASK_SELECTOR: u16 = 0x20;
const TASK_ACCESS: u8 = 0x8b;
const TASK_LIMIT: u32 = 0x67;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Present, writable.
const TABLE_ENTRY: u64 = 0b11;
/// Present, writable, a large page.
const PAGE_ENTRY: u64 = 0b11 | 1 << 7;

impl Flat {
    fn segment(&self) -> kvm_segment {
        let &Self(selector, access, long) = self;
        kvm_segment {
            base: 0,
            limit: u32::MAX,
            selector,
            type_: access & 0xf,
            present: 1,
            dpl: 0,
            db: u8::from(!long),
            s: 1,
            l: u8::from(long),
            g: 1,
            ..kvm_segment::default()
        }
    }

    fn descriptor(&self) -> u64 {
        let &Self(_, access, long) = self;
        let flags = if long { 0xa } else { 0xc };
        0xffff | u64::from(access) << 40 | 0xf << 48 | flags << 52
    }
}

fn descriptors(entry: &Entry) -> [u64; 5] {
    let code = if matches!(entry, Entry::Linux64 { .. }) { CODE_64 } else { CODE_32 };
    let task = u64::from(TASK_LIMIT) | u64::from(TASK_ACCESS) << 40;
    [0, 0, code.descriptor(), DATA.descriptor(), task]
}

/// Writes the descriptor tables, and the page tables that map the first 4 GiB to themselves.
///
/// # Errors
/// Where there is no memory at their places.
pub fn write_boot_tables(ram: &GuestRam, entry: &Entry) -> Result<(), GuestMemoryError> {
    for (address, descriptor) in (BOOT_GDT..).step_by(8).zip(descriptors(entry)) {
        ram.write_obj(descriptor.to_le(), GuestAddress(address))?;
    }
    ram.write_obj(0u64, GuestAddress(BOOT_IDT))?;
    let pointers = PAGE_TABLES + 0x1000;
    let directories = pointers + 0x1000;
    ram.write_obj(pointers | TABLE_ENTRY, GuestAddress(PAGE_TABLES))?;
    for gib in 0..4 {
        ram.write_obj((directories + gib * 0x1000) | TABLE_ENTRY, GuestAddress(pointers + gib * 8))?;
    }
    let pages: Vec<u8> = (0..4 * 512u64).flat_map(|page| (page << 21 | PAGE_ENTRY).to_le_bytes()).collect();
    ram.write_slice(&pages, GuestAddress(directories))
}

/// Changes registers as KVM resets them into those that `entry` wants.
pub fn enter(sregs: &mut kvm_sregs, entry: &Entry) {
    let code = match entry {
        Entry::Linux64 { .. } => {
            sregs.cr3 = PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.efer = EFER_LME | EFER_LMA;
            CODE_64
        }
        Entry::Pvh { .. } => {
            sregs.cr3 = 0;
            sregs.cr4 = 0;
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.efer = 0;
            CODE_32
        }
    };
    sregs.cs = code.segment();
    let data = DATA.segment();
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        base: 0,
        limit: TASK_LIMIT,
        selector: TASK_SELECTOR,
        type_: TASK_ACCESS & 0xf,
        present: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = (BOOT_GDT, 5 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (BOOT_IDT, 7);
}

/// The general registers of the first processor.
pub fn general(entry: &Entry) -> kvm_regs {
    // Bit 1 of RFLAGS is always set; interrupts are off.
    let regs = kvm_regs { rflags: 2, ..kvm_regs::default() };
    match *entry {
        Entry::Linux64 { rip, boot_params } => {
            kvm_regs { rip, rsi: boot_params, rsp: BOOT_STACK, rbp: BOOT_STACK, ..regs }
        }
        Entry::Pvh { rip, start_info } => kvm_regs { rip: rip.into(), rbx: start_info, ..regs },
    }
}

/// Offset of the local vector table's entry for pin LINT0 (Intel SDM, volume 3, section 11.5.1); LINT1's follows.
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes, in bits 8 to 10.
const NMI: u32 = 4 << 8;
const EXTINT: u32 = 7 << 8;

/// Wires the pins of the first processor's interrupt controller as on a PC: the 8259s to LINT0, NMI to LINT1.
pub fn wire_local_interrupts(lapic: &mut kvm_lapic_state) {
    for (offset, mode) in [(LVT_LINT0, EXTINT), (LVT_LINT1, NMI)] {
        for (register, byte) in lapic.regs[offset..offset + 4].iter_mut().zip(mode.to_le_bytes()) {
            *register = byte as _;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Entry = Entry::Linux64 { rip: 0x100_0000, boot_params: 0x7000 };

    #[test]
    fn page_tables_map_addresses_to_themselves() {
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_boot_tables(&ram, &LINUX).unwrap();
        let entry =
            |table: u64, index: u64| ram.read_obj::<u64>(GuestAddress((table & !0xfff) + index * 8)).unwrap();
        for address in [0u64, 0x20_0000, 0xbfff_ffff, 0xffff_f000] {
            let pointers = entry(PAGE_TABLES, address >> 39);
            let directory = entry(pointers, address >> 30 & 511);
            let page = entry(directory, address >> 21 & 511);
            assert_eq!(page, address & !0x1f_ffff | 0x83, "{address:#x}");
        }
        assert_eq!(entry(PAGE_TABLES, 1), 0);
    }

    #[test]
    fn descriptors_are_flat() {
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_boot_tables(&ram, &LINUX).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(BOOT_GDT + 0x10)).unwrap(), 0x00af_9b00_0000_ffff);
        assert_eq!(ram.read_obj::<u64>(GuestAddress(BOOT_GDT + 0x18)).unwrap(), 0x00cf_9300_0000_ffff);
        write_boot_tables(&ram, &Entry::Pvh { rip: 0, start_info: 0 }).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(BOOT_GDT + 0x10)).unwrap(), 0x00cf_9b00_0000_ffff);
    }

    #[test]
    fn each_protocol_gets_its_mode() {
        let mut sregs = kvm_sregs::default();
        enter(&mut sregs, &LINUX);
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.efer, sregs.cr0 >> 31), (1, 0, 0x500, 1));
        assert_eq!(general(&LINUX).rsi, 0x7000);
        let pvh = Entry::Pvh { rip: 0x100_0020, start_info: 0x6000 };
        enter(&mut sregs, &pvh);
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.efer, sregs.cr0 >> 31), (0, 1, 0, 0));
        assert_eq!((general(&pvh).rip, general(&pvh).rbx), (0x100_0020, 0x6000));
    }

    #[test]
    fn pins_are_wired() {
        let mut lapic = kvm_lapic_state::default();
        wire_local_interrupts(&mut lapic);
        assert_eq!((lapic.regs[0x351], lapic.regs[0x361], lapic.regs[0x350]), (7, 4, 0));
    }
}
