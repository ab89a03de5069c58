//! PCI, as much of it as a machine without firmware needs: one segment with one bus, functions with type 0 headers,
//! memory BARs and MSI-X (PCI Local Bus 3.0; PCI Express Base 5.0, section 7.2 for ECAM).
//!
//! ```text
//!   ports 0xCF8, 0xCFC ─┐
//!   ECAM (MMIO) ────────┴─► PciSegment ─► PciFunction ── command, BARs ──► BarMap ──► bus::Bus
//! ```
//! A segment owns its functions; what a function puts on the bus refers to it weakly, so that functions end with their
//! segment whatever is left on the bus.

mod access;
mod bars;
mod bytes;
mod config;
mod host_bridge;
mod msix;
mod segment;
mod windows;

pub use bars::{BarKind, BarMap};
pub(crate) use bytes::{merge, read_image, touches};
pub use config::{ConfigSpace, Identity};
pub use msix::{Msix, MsixPlaces};
pub use segment::{ECAM_SIZE, PORTS, PciError, PciSegment, SLOTS};

/// A function on the bus: what its configuration space answers. `offset + data.len()` is at most 4096.
pub trait PciFunction: Send {
    /// The guest reads its configuration space.
    fn read_config(&mut self, offset: usize, data: &mut [u8]);

    /// The guest writes its configuration space.
    fn write_config(&mut self, offset: usize, data: &[u8]);
}
