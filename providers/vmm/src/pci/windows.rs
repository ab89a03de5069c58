//! Gives BARs their first addresses, which is the firmware's work where there is one; a guest keeps what it finds.

use std::ops::Range;

use super::PciFunction;
use super::config::{BAR_COUNT, BARS};

/// A range of addresses given away from its start.
struct Window {
    next: u64,
    end: u64,
}

impl Window {
    /// `size` bytes, aligned to `size`, a power of two.
    fn take(&mut self, size: u64) -> Option<u64> {
        let start = self.next.checked_next_multiple_of(size)?;
        let next = start.checked_add(size)?;
        (next <= self.end).then(|| {
            self.next = next;
            start
        })
    }
}

/// The addresses of a segment's BARs.
pub(super) struct Windows {
    low: Window,
    high: Window,
}

impl Windows {
    pub(super) fn new(mmio32: Range<u64>, mmio64: Range<u64>) -> Self {
        let window = |range: Range<u64>| Window { next: range.start, end: range.end };
        Self { low: window(mmio32.start..mmio32.end.min(1 << 32)), high: window(mmio64) }
    }

    /// Sizes the BARs of `function` and sets each to an address of its own.
    ///
    /// # Errors
    /// The size of the BAR that no window has room for.
    pub(super) fn assign(&mut self, function: &mut dyn PciFunction) -> Result<(), u64> {
        let mut index = 0;
        while index < BAR_COUNT {
            let register = BARS + 4 * index;
            let mut probe = |register| {
                let mut bytes = [0; 4];
                function.write_config(register, &[0xff; 4]);
                function.read_config(register, &mut bytes);
                u32::from_le_bytes(bytes)
            };
            let low = probe(register);
            let wide = low & 0b111 == 0b100;
            let high = if wide { probe(register + 4) } else { u32::MAX };
            let mask = u64::from(high) << 32 | u64::from(low & !0xf);
            if low & !0xf != 0 {
                let size = (!mask).wrapping_add(1);
                let place = wide.then(|| self.high.take(size)).flatten().or_else(|| self.low.take(size));
                let address = place.ok_or(size)?.to_le_bytes();
                function.write_config(register, &address[..4]);
                if wide {
                    function.write_config(register + 4, &address[4..]);
                }
            }
            index += if wide { 2 } else { 1 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::bus::{Bus, BusDevice};
    use crate::pci::{BarKind, BarMap, ConfigSpace, Identity};

    struct Silent;

    impl BusDevice for Silent {
        fn read(&mut self, _: u64, _: &mut [u8]) {}

        fn write(&mut self, _: u64, _: &[u8]) {}
    }

    struct Function {
        config: ConfigSpace,
        bars: BarMap,
    }

    impl PciFunction for Function {
        fn read_config(&mut self, offset: usize, data: &mut [u8]) {
            self.config.read(offset, data);
        }

        fn write_config(&mut self, offset: usize, data: &[u8]) {
            self.config.write(offset, data);
            self.bars.sync(&self.config);
        }
    }

    fn function(bus: &Arc<Bus>) -> Function {
        let identity =
            Identity { vendor: 1, device: 1, revision: 1, class: 0, subsystem_vendor: 0, subsystem: 0 };
        let (mut config, mut bars) = (ConfigSpace::new(identity), BarMap::new(bus));
        bars.add(&mut config, 0, BarKind::Memory32, 0x100, Arc::new(Mutex::new(Silent)));
        bars.add(&mut config, 2, BarKind::Memory64, 0x8000, Arc::new(Mutex::new(Silent)));
        bars.add(&mut config, 4, BarKind::Memory64, 0x2000, Arc::new(Mutex::new(Silent)));
        Function { config, bars }
    }

    #[test]
    fn bars_get_aligned_addresses_of_their_own() {
        let bus = Arc::new(Bus::default());
        let mut function = function(&bus);
        let mut windows = Windows::new(0xe000_0010..0xf000_0000, 0x40_0000_1000..0x40_0001_0000);
        windows.assign(&mut function).unwrap();
        assert_eq!(function.config.u32(0x10), 0xe000_0100);
        assert_eq!((function.config.u32(0x18), function.config.u32(0x1c)), (0x8004, 0x40));
        // The high window is full; the low one serves.
        assert_eq!((function.config.u32(0x20), function.config.u32(0x24)), (0xe000_2004, 0));
        assert_eq!(function.bars.mapped(0), None);
        function.write_config(4, &[2, 0]);
        assert_eq!(function.bars.mapped(0), Some(0xe000_0100));
        assert_eq!(function.bars.mapped(2), Some(0x40_0000_8000));
    }

    #[test]
    fn a_full_window_is_told() {
        let bus = Arc::new(Bus::default());
        let mut windows = Windows::new(0xe000_0000..0xe000_1000, 0..0);
        assert_eq!(windows.assign(&mut function(&bus)), Err(0x8000));
    }

    #[test]
    fn bars_move_and_go_as_the_guest_says() {
        let bus = Arc::new(Bus::default());
        let mut function = function(&bus);
        Windows::new(0xe000_0000..0xf000_0000, 0..0).assign(&mut function).unwrap();
        function.write_config(4, &[2, 0]);
        assert_eq!(function.bars.mapped(2), Some(0xe000_8000));
        function.write_config(0x1c, &[1, 0, 0, 0]);
        assert_eq!(function.bars.mapped(2), Some(0x1_e000_8000));
        // Onto another: it answers nowhere until it is moved away again.
        function.write_config(0x18, &0xe000_a000_u32.to_le_bytes());
        function.write_config(0x20, &0xe000_8000_u32.to_le_bytes());
        function.write_config(0x1c, &[0; 4]);
        assert_eq!(function.bars.mapped(2), None);
        function.write_config(0x1c, &[2, 0, 0, 0]);
        assert_eq!(function.bars.mapped(2), Some(0x2_e000_8000));
        function.write_config(4, &[0, 0]);
        assert_eq!(function.bars.mapped(2), None);
        function.write_config(4, &[2, 0]);
        drop(function);
        bus.insert(0..u64::MAX, Arc::new(Mutex::new(Silent))).unwrap();
    }
}
