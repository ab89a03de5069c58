//! The DSDT: devices that cannot be found by asking a bus.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::arch::x86_64::layout::{
    COM1_GSI, COM1_PORTS, ECAM, Layout, PCI_32, PCI_BUSES, PCI_CONFIG_PORTS, PVPANIC_PORTS, SLEEP_TYPE_S5,
};

/// The table for `cpus` processors.
pub fn dsdt(layout: &Layout, cpus: u8) -> Sdt {
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, OEM_TABLE, OEM_REVISION);
    let mut code = Vec::new();
    let sleep_type = SLEEP_TYPE_S5;
    Name::new("\\_S5_".into(), &Package::new(vec![&sleep_type, &sleep_type, &0u8, &0u8]))
        .to_aml_bytes(&mut code);
    processors(cpus, &mut code);
    host_bridge(layout, &mut code);
    serial_line(&mut code);
    panic_port(&mut code);
    table.append_slice(&code);
    table
}

fn name(path: &str, value: &dyn Aml) -> Name {
    Name::new(path.into(), value)
}

/// Present, enabled, shown, working (ACPI 6.5, section 6.3.7).
const STATUS: u8 = 0xf;

/// Adds a device of `\_SB_`.
fn device(path: &str, children: Vec<&dyn Aml>, code: &mut Vec<u8>) {
    Scope::new("\\_SB_".into(), vec![&Device::new(Path::new(path), children)]).to_aml_bytes(code);
}

/// Processor devices (ACPI 6.5, section 8.4), matched with the MADT by their unique ids.
fn processors(cpus: u8, code: &mut Vec<u8>) {
    for id in 0..cpus {
        let hid = name("_HID", &"ACPI0007");
        let uid = name("_UID", &id);
        device(&format!("C{id:03X}"), vec![&hid, &uid], code);
    }
}

/// The PCI Express host bridge, and the motherboard resource by which ECAM is taken to be reserved
/// (PCI Firmware 3.3, section 4.1.2). Devices signal by messages only: there is no routing of interrupt pins.
fn host_bridge(layout: &Layout, code: &mut Vec<u8>) {
    let ecam = Memory32Fixed::new(true, ECAM.start as u32, (ECAM.end - ECAM.start) as u32);
    let reserved = name("_CRS", &ResourceTemplate::new(vec![&ecam]));
    device("MRES", vec![&name("_HID", &EISAName::new("PNP0C02")), &name("_UID", &0u8), &reserved], code);

    let (first, last) = (PCI_CONFIG_PORTS.start as u16, PCI_CONFIG_PORTS.end as u16 - 1);
    let window = layout.pci_64();
    let cacheable = AddressSpaceCacheable::NotCacheable;
    let resources = name(
        "_CRS",
        &ResourceTemplate::new(vec![
            &AddressSpace::new_bus_number(0u16, u16::from(PCI_BUSES) - 1),
            &IO::new(first, first, 1, (last - first + 1) as u8),
            &AddressSpace::new_io(0u16, first - 1, None),
            &AddressSpace::new_io(last + 1, u16::MAX, None),
            &AddressSpace::new_memory(cacheable, true, PCI_32.start as u32, PCI_32.end as u32 - 1, None),
            &AddressSpace::new_memory(cacheable, true, window.start, window.end - 1, None),
        ]),
    );
    device(
        "PCI0",
        vec![
            &name("_HID", &EISAName::new("PNP0A08")),
            &name("_CID", &EISAName::new("PNP0A03")),
            &name("_SEG", &0u8),
            &name("_BBN", &0u8),
            &name("_UID", &0u8),
            // Devices are coherent with processors' caches.
            &name("_CCA", &1u8),
            &resources,
        ],
        code,
    );
}

fn serial_line(code: &mut Vec<u8>) {
    let first = COM1_PORTS.start as u16;
    let ports = IO::new(first, first, 1, (COM1_PORTS.end - COM1_PORTS.start) as u8);
    let interrupt = Interrupt::new(true, true, false, false, COM1_GSI);
    let resources = name("_CRS", &ResourceTemplate::new(vec![&interrupt, &ports]));
    device("COM1", vec![&name("_HID", &EISAName::new("PNP0501")), &name("_UID", &0u8), &resources], code);
}

fn panic_port(code: &mut Vec<u8>) {
    let port = PVPANIC_PORTS.start as u16;
    let resources = name("_CRS", &ResourceTemplate::new(vec![&IO::new(port, port, 1, 1)]));
    device("PEVT", vec![&name("_HID", &"QEMU0001"), &name("_STA", &STATUS), &resources], code);
}
