//! Who a virtio device is on PCI (virtio 1.2, section 4.1.2).

use virtio_bindings::virtio_ids::{
    VIRTIO_ID_9P, VIRTIO_ID_BALLOON, VIRTIO_ID_BLOCK, VIRTIO_ID_CONSOLE, VIRTIO_ID_FS, VIRTIO_ID_GPU,
    VIRTIO_ID_INPUT, VIRTIO_ID_MEM, VIRTIO_ID_NET, VIRTIO_ID_PMEM, VIRTIO_ID_SCSI, VIRTIO_ID_VSOCK,
};

use crate::pci::Identity;

const VENDOR: u16 = 0x1af4;
/// To which a device's type is added.
const FIRST_DEVICE: u16 = 0x1040;
/// Modern devices have subsystems from here on.
const FIRST_SUBSYSTEM: u16 = 0x40;

/// The identity of a device of type `kind`.
pub(super) fn identity(kind: u32) -> Identity {
    // A device's type has six bits in practice; one that fits no identifier is shown as the reserved type 0.
    let number = u16::try_from(kind).ok().filter(|kind| *kind < 0x1000).unwrap_or(0);
    Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + number,
        revision: 1,
        class: class(kind),
        subsystem_vendor: VENDOR,
        subsystem: FIRST_SUBSYSTEM + number,
    }
}

/// Its class code (PCI Code and ID Assignment 1.11).
fn class(kind: u32) -> u32 {
    match kind {
        VIRTIO_ID_NET => 0x02_00_00,
        VIRTIO_ID_BLOCK | VIRTIO_ID_FS | VIRTIO_ID_9P => 0x01_80_00,
        VIRTIO_ID_SCSI => 0x01_00_00,
        VIRTIO_ID_CONSOLE | VIRTIO_ID_VSOCK => 0x07_80_00,
        VIRTIO_ID_GPU => 0x03_80_00,
        VIRTIO_ID_INPUT => 0x09_80_00,
        VIRTIO_ID_BALLOON | VIRTIO_ID_MEM | VIRTIO_ID_PMEM => 0x05_80_00,
        _ => 0xff_00_00,
    }
}
