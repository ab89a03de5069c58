//! Which device answers at an address: one bus for memory-mapped I/O, one for ports.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Registers that a vCPU reads and writes. Called on vCPU threads, one call at a time for each device.
pub trait BusDevice: Send {
    /// The guest reads `data.len()` bytes (1 to 8) at `offset` from the start of the range. What is not written here
    /// reads as all ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes `data` (1 to 8 bytes) at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A device on a bus.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// What can be wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It holds no address.
    #[error("the address range {0:#x?} is empty")]
    Empty(Range<u64>),
    /// Another device answers there.
    #[error("the address range {0:#x?} overlaps another device's")]
    Overlap(Range<u64>),
}

struct Entry {
    end: u64,
    device: SharedDevice,
}

/// An address space of devices. Ranges never overlap.
#[derive(Default)]
pub struct Bus {
    entries: RwLock<BTreeMap<u64, Entry>>,
}

impl Bus {
    /// Lets `device` answer in `range`.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn insert(&self, range: Range<u64>, device: SharedDevice) -> Result<(), BusError> {
        if range.is_empty() {
            return Err(BusError::Empty(range));
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let before = entries.range(..range.end).next_back();
        if before.is_some_and(|(_, entry)| entry.end > range.start) {
            return Err(BusError::Overlap(range));
        }
        entries.insert(range.start, Entry { end: range.end, device });
        Ok(())
    }

    /// Takes away the device whose range begins at `start`; returns it where there was one.
    pub fn remove(&self, start: u64) -> Option<SharedDevice> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&start).map(|entry| entry.device)
    }

    /// The guest reads at `address`. Where nobody answers, all bits are one, as on a bus that floats.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.at(address, data.len()) {
            device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
        }
    }

    /// The guest writes at `address`. Where nobody answers, nothing happens.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.at(address, data.len()) {
            device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        }
    }

    /// The device at `address`, if all of the access lies in its range. The bus is not locked while a device works, as
    /// a device may move others on it.
    fn at(&self, address: u64, length: usize) -> Option<(u64, SharedDevice)> {
        let end = address.checked_add(length as u64)?;
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (start, entry) = entries.range(..=address).next_back()?;
        (end <= entry.end).then(|| (address - start, entry.device.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Registers(Vec<(u64, Vec<u8>)>);

    impl BusDevice for Registers {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.to_vec()));
        }
    }

    #[test]
    fn answers_only_inside_of_ranges() {
        let bus = Bus::default();
        let device = Arc::new(Mutex::new(Registers(Vec::new())));
        bus.insert(0x100..0x110, device.clone()).unwrap();
        let mut data = [0; 4];
        bus.read(0x104, &mut data);
        assert_eq!(data, [4; 4]);
        for outside in [0xff, 0x10d, 0x110, u64::MAX] {
            bus.read(outside, &mut data);
            assert_eq!(data, [0xff; 4], "{outside:#x}");
        }
        bus.write(0x10e, &[1, 2]);
        bus.write(0x10f, &[1, 2]);
        assert_eq!(device.lock().unwrap().0, [(0xe, vec![1, 2])]);
        assert!(bus.remove(0x100).is_some());
        bus.read(0x104, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn refuses_ranges_that_overlap() {
        let bus = Bus::default();
        let device = Arc::new(Mutex::new(Registers(Vec::new())));
        bus.insert(0x100..0x200, device.clone()).unwrap();
        for bad in [0x80..0x101, 0x1ff..0x300, 0x150..0x160, 0x0..0x1000] {
            assert_eq!(bus.insert(bad.clone(), device.clone()), Err(BusError::Overlap(bad)));
        }
        assert!(matches!(bus.insert(0x10..0x10, device.clone()), Err(BusError::Empty(_))));
        bus.insert(0x200..0x300, device.clone()).unwrap();
        bus.insert(0x0..0x100, device).unwrap();
    }
}
