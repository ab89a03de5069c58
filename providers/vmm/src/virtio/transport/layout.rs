//! What lies where in the device's BAR, and the capabilities that tell the driver (virtio 1.2, section 4.1.4).

use crate::pci::{ConfigSpace, MsixPlaces};

/// The BAR that holds everything.
pub(super) const BAR: u8 = 0;
/// How large it is: eight pages.
pub(super) const BAR_SIZE: u64 = 8 * PAGE;
/// What each region has for itself, so that a hypervisor or guest can map them apart.
const PAGE: u64 = 0x1000;
/// How far apart the queues' notification addresses are; `notify_off_multiplier`.
pub(super) const NOTIFY_MULTIPLIER: u32 = 4;
/// Where the first of them is.
pub(super) const NOTIFY: u64 = 3 * PAGE;
/// How many vectors the table's page holds.
pub(super) const MAX_VECTORS: u16 = 256;
/// How many queues have a notification address.
pub(super) const MAX_QUEUES: u16 = (PAGE / NOTIFY_MULTIPLIER as u64) as u16;

/// A part of the BAR; they follow each other, a page each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    Common,
    Isr,
    Device,
    Notify,
    Table,
    Pending,
}

/// The region at `offset` of the BAR, and the offset in it.
pub(super) fn region(offset: u64) -> Option<(Region, usize)> {
    let region = match offset / PAGE {
        0 => Region::Common,
        1 => Region::Isr,
        2 => Region::Device,
        3 => Region::Notify,
        4 => Region::Table,
        5 => Region::Pending,
        _ => return None,
    };
    Some((region, (offset % PAGE) as usize))
}

/// Where MSI-X is.
pub(super) const MSIX: MsixPlaces = MsixPlaces { bar: BAR, table: 4 * PAGE as u32, pending: 5 * PAGE as u32 };

const CAPABILITY_VENDOR: u8 = 0x09;
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// Shows the virtio capabilities of a device with `queues` queues; returns where the one for access through
/// configuration space begins.
pub(super) fn add_capabilities(config: &mut ConfigSpace, queues: usize) -> usize {
    let mut add = |kind: u8, offset: u64, length: u32, more: &[u8], writable: &[u8]| {
        let mut body = vec![(16 + more.len()) as u8, kind, BAR, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(more);
        config.add_capability(CAPABILITY_VENDOR, &body, writable)
    };
    add(COMMON_CFG, 0, super::common::SIZE as u32, &[], &[]);
    add(ISR_CFG, PAGE, 1, &[], &[]);
    add(DEVICE_CFG, 2 * PAGE, PAGE as u32, &[], &[]);
    let notify = NOTIFY_MULTIPLIER * queues.max(1) as u32;
    add(NOTIFY_CFG, NOTIFY, notify, &NOTIFY_MULTIPLIER.to_le_bytes(), &[]);
    // The driver sets bar, offset and length, then accesses the four bytes of data (section 4.1.4.9).
    let mut writable = [0xff; 18];
    writable[..2].fill(0);
    writable[3..6].fill(0);
    add(PCI_CFG, 0, 0, &[0; 4], &writable)
}

/// The fields of the capability for access through configuration space, from its begin.
pub(super) mod pci_cfg {
    pub const BAR: usize = 4;
    pub const OFFSET: usize = 8;
    pub const LENGTH: usize = 12;
    pub const DATA: usize = 16;
}
