//! The one segment of a machine: a bus of up to 32 devices with one function each.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::PciFunction;
use super::access::{Ecam, Ports};
use super::host_bridge::HostBridge;
use super::windows::Windows;
use crate::bus::SharedDevice;

/// How many devices a bus has room for.
pub const SLOTS: u8 = 32;
/// How many bytes of MMIO the configuration space of the one bus takes.
pub const ECAM_SIZE: u64 = 1 << 20;
/// The ports of configuration mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2).
pub const PORTS: Range<u64> = 0xcf8..0xd00;

/// Why a function cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// There is no such slot.
    #[error("PCI slot {0} is beyond the last, {last}", last = SLOTS - 1)]
    NoSlot(u8),
    /// Another function is there; slot 0 is the host bridge's.
    #[error("PCI slot {0} is taken")]
    Taken(u8),
    /// A BAR finds no room.
    #[error("no room for a BAR of {size:#x} bytes of the function in PCI slot {slot}")]
    NoRoom {
        /// The function's slot.
        slot: u8,
        /// The BAR's size in bytes.
        size: u64,
    },
}

type Shared = Arc<Mutex<dyn PciFunction>>;

/// The functions by their slot.
#[derive(Default)]
pub(super) struct Slots(Mutex<[Option<Shared>; SLOTS as usize]>);

impl Slots {
    /// Reads configuration space; where there is no such function all bits are one.
    pub(super) fn read(&self, address: ConfigAddress, data: &mut [u8]) {
        match self.at(address, data.len()) {
            Some(function) => {
                function.lock().unwrap_or_else(PoisonError::into_inner).read_config(address.register, data);
            }
            None => data.fill(0xff),
        }
    }

    /// Writes configuration space; where there is no such function nothing happens.
    pub(super) fn write(&self, address: ConfigAddress, data: &[u8]) {
        if let Some(function) = self.at(address, data.len()) {
            function.lock().unwrap_or_else(PoisonError::into_inner).write_config(address.register, data);
        }
    }

    fn at(&self, address: ConfigAddress, length: usize) -> Option<Shared> {
        let inside = address.bus == 0 && address.function == 0 && address.register + length <= 4096;
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(usize::from(address.device)).filter(|_| inside)?.clone()
    }
}

/// Where in the segment's configuration space an access goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigAddress {
    pub(super) bus: u8,
    pub(super) device: u8,
    pub(super) function: u8,
    pub(super) register: usize,
}

/// The segment, with a host bridge in slot 0. It owns its functions, together with [`ecam`](Self::ecam) and
/// [`ports`](Self::ports).
pub struct PciSegment {
    slots: Arc<Slots>,
    windows: Windows,
}

impl PciSegment {
    /// A segment whose BARs lie in `mmio32`, below 4 GiB, and `mmio64`; the host bridge's `_CRS` must name both as not
    /// prefetchable. Either may be empty.
    #[must_use]
    pub fn new(mmio32: Range<u64>, mmio64: Range<u64>) -> Self {
        let slots = Slots::default();
        let bridge: Shared = Arc::new(Mutex::new(HostBridge::new()));
        slots.0.lock().unwrap_or_else(PoisonError::into_inner)[0] = Some(bridge);
        Self { slots: Arc::new(slots), windows: Windows::new(mmio32, mmio64) }
    }

    /// Puts `function` into `slot` and gives its BARs their addresses. Memory space is left disabled, as the guest
    /// enables what it drives.
    ///
    /// # Errors
    /// [`PciError`].
    pub fn add(&mut self, slot: u8, function: Arc<Mutex<dyn PciFunction>>) -> Result<(), PciError> {
        let mut slots = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = slots.get_mut(usize::from(slot)).ok_or(PciError::NoSlot(slot))?;
        if place.is_some() {
            return Err(PciError::Taken(slot));
        }
        self.windows
            .assign(&mut *function.lock().unwrap_or_else(PoisonError::into_inner))
            .map_err(|size| PciError::NoRoom { slot, size })?;
        *place = Some(function);
        Ok(())
    }

    /// Configuration space as memory, [`ECAM_SIZE`] bytes for bus 0 (PCI Express Base 5.0, section 7.2.2).
    #[must_use]
    pub fn ecam(&self) -> SharedDevice {
        Arc::new(Mutex::new(Ecam::new(self.slots.clone())))
    }

    /// Configuration space behind the ports [`PORTS`]. They are one set of registers: call it once.
    #[must_use]
    pub fn ports(&self) -> SharedDevice {
        Arc::new(Mutex::new(Ports::new(self.slots.clone(), None)))
    }

    /// As [`ports`](Self::ports), with `reset` as the reset control register of chipsets: a byte at port 0xCF9, which
    /// lies among them and is told apart by its width. `reset` sees offset 0.
    #[must_use]
    pub fn ports_with_reset(&self, reset: SharedDevice) -> SharedDevice {
        Arc::new(Mutex::new(Ports::new(self.slots.clone(), Some(reset))))
    }
}
