//! The ACPI tables (ACPI 6.5): what the kernel is told of processors, interrupts, buses and power.
//!
//! ```text
//!   RSDP ──► XSDT ──► FADT ──► DSDT, FACS       MADT: processors, interrupt controllers
//!                                               MCFG: PCI configuration space
//! ```
//! The machine has the fixed hardware of ACPI (it is not "hardware-reduced"): a power button there is an input device
//! of the kernel without any driver's help.

mod dsdt;
mod tables;

use acpi_tables::{Aml, facs::FACS, rsdp::Rsdp, xsdt::XSDT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::layout::{self, Layout};
use crate::memory::GuestRam;

/// The names that tables are signed with.
const OEM: [u8; 6] = *b"POSADA";
const OEM_TABLE: [u8; 8] = *b"POSADAVM";
const OEM_REVISION: u32 = 1;

/// What can go wrong with the tables.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// They have outgrown their place.
    #[error("the ACPI tables end at {0:#x}, behind their place in memory")]
    TooLarge(u64),
    /// Their place is no memory.
    #[error("the ACPI tables cannot be written")]
    Memory(#[from] GuestMemoryError),
}

/// Writes tables one after another.
struct Writer<'a> {
    ram: &'a GuestRam,
    next: u64,
}

impl Writer<'_> {
    /// Writes a table at the next 64 bytes (what a FACS wants); returns where.
    fn put(&mut self, table: &dyn Aml) -> Result<u64, AcpiError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let start = self.next.next_multiple_of(64);
        let end = start + bytes.len() as u64;
        if end > layout::ACPI_END {
            return Err(AcpiError::TooLarge(end));
        }
        self.ram.write_slice(&bytes, GuestAddress(start))?;
        self.next = end;
        Ok(start)
    }
}

/// Writes the tables of a machine with `cpus` processors, whose APIC ids are 0 and up; returns where the RSDP is.
///
/// # Errors
/// [`AcpiError`].
pub fn write_tables(ram: &GuestRam, layout: &Layout, cpus: u8) -> Result<u64, AcpiError> {
    let mut writer = Writer { ram, next: layout::RSDP + Rsdp::len() as u64 };
    let dsdt = writer.put(&dsdt::dsdt(layout, cpus))?;
    let facs = writer.put(&FACS::new())?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(writer.put(&tables::fadt(dsdt, facs))?);
    xsdt.add_entry(writer.put(&tables::madt(cpus))?);
    xsdt.add_entry(writer.put(&tables::mcfg())?);
    let xsdt = writer.put(&xsdt)?;
    Writer { ram, next: layout::RSDP }.put(&Rsdp::new(OEM, xsdt))
}

#[cfg(test)]
mod tests;
