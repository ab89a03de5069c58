//! Base address registers (PCI Local Bus 3.0, section 6.2.5.1), and the function's place on the bus that follows them.
//!
//! The address bits below a BAR's size cannot be written, which is all there is to sizing: a guest writes ones and
//! sees which of them stay.

use std::sync::{Arc, Weak};

use super::config::{BAR_COUNT, BARS, ConfigSpace};
use crate::bus::{Bus, SharedDevice};

const TYPE_64: u32 = 0b100;
const FLAGS: u64 = 0xf;

/// Which addresses a memory BAR can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Those below 4 GiB.
    Memory32,
    /// All. It takes two registers.
    Memory64,
}

struct Bar {
    index: usize,
    kind: BarKind,
    size: u64,
    device: SharedDevice,
    /// Where it is on the bus.
    mapped: Option<u64>,
}

impl Bar {
    fn address(&self, config: &ConfigSpace) -> u64 {
        let register = BARS + 4 * self.index;
        let low = u64::from(config.u32(register)) & !FLAGS;
        match self.kind {
            BarKind::Memory32 => low,
            BarKind::Memory64 => low | u64::from(config.u32(register + 4)) << 32,
        }
    }
}

/// The memory BARs of a function, none of them prefetchable.
pub struct BarMap {
    bus: Weak<Bus>,
    bars: Vec<Bar>,
}

impl BarMap {
    /// None yet. They will be shown on `bus`, which may end before them.
    #[must_use]
    pub fn new(bus: &Arc<Bus>) -> Self {
        Self { bus: Arc::downgrade(bus), bars: Vec::new() }
    }

    /// Makes BAR `index` of `config` one of `size` bytes, at which `device` answers. It holds no address yet.
    /// `device` must not own the function, or neither would ever end.
    ///
    /// # Panics
    /// Where `size` is no power of two from 16 to 2 GiB, or a register is missing or taken.
    pub fn add(
        &mut self,
        config: &mut ConfigSpace,
        index: usize,
        kind: BarKind,
        size: u64,
        device: SharedDevice,
    ) {
        assert!(size.is_power_of_two() && (16..=1 << 31).contains(&size), "a BAR of {size:#x} bytes");
        let registers = if kind == BarKind::Memory64 { 2 } else { 1 };
        let taken = self.bars.iter().any(|bar| {
            index < bar.index + if bar.kind == BarKind::Memory64 { 2 } else { 1 }
                && bar.index < index + registers
        });
        assert!(index + registers <= BAR_COUNT && !taken, "no register for BAR {index}");
        let register = BARS + 4 * index;
        let writable = !(size - 1);
        config.allow(register, &writable.to_le_bytes()[..4 * registers]);
        if kind == BarKind::Memory64 {
            config.set(register, &TYPE_64.to_le_bytes());
        }
        self.bars.push(Bar { index, kind, size, device, mapped: None });
    }

    /// Whether an access to configuration space is one that [`sync`](Self::sync) must follow.
    #[must_use]
    pub fn concerns(offset: usize, length: usize) -> bool {
        offset < BARS + 4 * BAR_COUNT && offset + length > 4
    }

    /// Brings the bus in line with what `config` says now: each BAR answers at its address while memory space is
    /// enabled. A range that another device has is left to that until the next call. Returns whether anything moved.
    pub fn sync(&mut self, config: &ConfigSpace) -> bool {
        let Some(bus) = self.bus.upgrade() else { return false };
        let mut moved = false;
        for bar in &mut self.bars {
            let address = bar.address(config);
            // An address of zero is none: the BAR has not been set up.
            let range = address.checked_add(bar.size).map(|end| address..end);
            let wanted = range.filter(|_| config.memory_enabled() && address != 0);
            if bar.mapped == wanted.as_ref().map(|range| range.start) {
                continue;
            }
            moved = true;
            if let Some(old) = bar.mapped.take() {
                bus.remove(old);
            }
            bar.mapped =
                wanted.filter(|range| bus.insert(range.clone(), bar.device.clone()).is_ok()).map(|r| r.start);
        }
        moved
    }

    /// Where BAR `index` answers now.
    #[must_use]
    pub fn mapped(&self, index: usize) -> Option<u64> {
        self.bars.iter().find(|bar| bar.index == index)?.mapped
    }
}

impl Drop for BarMap {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            for start in self.bars.iter().filter_map(|bar| bar.mapped) {
                bus.remove(start);
            }
        }
    }
}
