//! The tables of fixed form: FADT, MADT, MCFG.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::arch::x86_64::layout::{
    ECAM, IOAPIC, LAPIC, PCI_BUSES, PM1A_CONTROL, PM1A_EVENT, POWER_PORTS, RESET_REGISTER, RESET_VALUE,
    SCI_GSI, TIMER_PIN,
};

/// FADT boot architecture flags (ACPI 6.5, table 5.11): no VGA, no CMOS clock. That bit 1 is clear says that there is
/// no keyboard controller to be probed.
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

const PM1_EVENT_LENGTH: u8 = 4;
const PM1_CONTROL_LENGTH: u8 = 2;

/// The fixed hardware (ACPI 6.5, section 5.2.9).
pub fn fadt(dsdt: u64, facs: u64) -> FADT {
    let (event, control) = (POWER_PORTS.start + PM1A_EVENT, POWER_PORTS.start + PM1A_CONTROL);
    let port = |address, bytes: u8, access| GAS::new(AddressSpace::SystemIo, bytes * 8, 0, access, address);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .flag(Flags::TmrValExt);
    // Both are below 1 MiB, and some kernels look at the 32-bit fields first.
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.sci_int = (SCI_GSI as u16).into();
    fadt.pm1a_evt_blk = (event as u32).into();
    fadt.pm1_evt_len = PM1_EVENT_LENGTH;
    fadt.x_pm1a_evt_blk = port(event, PM1_EVENT_LENGTH, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = (control as u32).into();
    fadt.pm1_cnt_len = PM1_CONTROL_LENGTH;
    fadt.x_pm1a_cnt_blk = port(control, PM1_CONTROL_LENGTH, AccessSize::WordAccess);
    // Latencies this long say that there are no such states.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_CLOCK).into();
    fadt.reset_reg = port(POWER_PORTS.start + RESET_REGISTER, 1, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(OEM_TABLE).into();
    fadt.finalize()
}

/// MADT flag: there are two 8259s as well.
const PCAT_COMPATIBLE: u32 = 1;
/// Interrupt flags (ACPI 6.5, table 5.26).
const AS_THE_BUS: u16 = 0;
const ACTIVE_HIGH_LEVEL: u16 = 0b1101;

/// The interrupt controllers (ACPI 6.5, section 5.2.12). Lines of old are the IOAPIC's pins of the same number, but for
/// the timer's, line 0.
pub fn madt(cpus: u8) -> Sdt {
    let mut table = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, OEM_REVISION);
    table.append(LAPIC as u32);
    table.append(PCAT_COMPATIBLE);
    for id in 0..cpus {
        // Processor local APIC: uid, APIC id, enabled.
        table.append_slice(&[0, 8, id, id, 1, 0, 0, 0]);
    }
    // IOAPIC: id, reserved, address, its first GSI.
    table.append_slice(&[1, 12, 0, 0]);
    table.append(IOAPIC as u32);
    table.append(0u32);
    // Interrupt source overrides: bus ISA, source, GSI, flags.
    for (source, gsi, flags) in [(0, TIMER_PIN, AS_THE_BUS), (SCI_GSI as u8, SCI_GSI, ACTIVE_HIGH_LEVEL)] {
        table.append_slice(&[2, 10, 0, source]);
        table.append(gsi);
        table.append(flags);
    }
    // Local APIC NMI: of all processors, flags as the bus has them, pin LINT1.
    table.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    table
}

/// PCI's configuration space (PCI Firmware 3.3, section 4.1.2).
pub fn mcfg() -> MCFG {
    let mut table = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    table.add_ecam(ECAM.start, 0, 0, PCI_BUSES - 1);
    table
}
