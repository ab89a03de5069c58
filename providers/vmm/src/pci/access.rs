//! How the guest reaches configuration space: by memory (ECAM), and by an address port and a data port (mechanism #1),
//! which costs a hypervisor less as it need not decode an instruction.

use std::sync::{Arc, PoisonError};

use super::bytes::read_image;
use super::segment::{ConfigAddress, Slots};
use crate::bus::{BusDevice, SharedDevice};

/// Configuration space as memory (PCI Express Base 5.0, section 7.2.2).
pub(super) struct Ecam(Arc<Slots>);

impl Ecam {
    pub(super) fn new(slots: Arc<Slots>) -> Self {
        Self(slots)
    }

    fn address(offset: u64) -> ConfigAddress {
        ConfigAddress {
            bus: (offset >> 20) as u8,
            device: (offset >> 15) as u8 & 0x1f,
            function: (offset >> 12) as u8 & 0x7,
            register: offset as usize & 0xfff,
        }
    }
}

impl BusDevice for Ecam {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.0.read(Self::address(offset), data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.0.write(Self::address(offset), data);
    }
}

const ENABLE: u32 = 1 << 31;
/// The enable bit, bus, device, function and register; the rest reads as zero.
const ADDRESS_BITS: u32 = 0x80ff_fffc;
/// Where the data port is, from the address port.
const DATA: u64 = 4;
/// Where chipsets have their reset control register, a byte inside of the address port.
const RESET: u64 = 1;

/// The ports of mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2).
pub(super) struct Ports {
    slots: Arc<Slots>,
    address: u32,
    reset: Option<SharedDevice>,
}

impl Ports {
    pub(super) fn new(slots: Arc<Slots>, reset: Option<SharedDevice>) -> Self {
        Self { slots, address: 0, reset }
    }

    /// The device behind an access that is a byte at the reset control register.
    fn reset(&self, offset: u64, length: usize) -> Option<&SharedDevice> {
        self.reset.as_ref().filter(|_| (offset, length) == (RESET, 1))
    }

    /// What an access at `offset` of the ports reaches.
    fn target(&self, offset: u64) -> Option<ConfigAddress> {
        let byte = offset.checked_sub(DATA)?;
        (self.address & ENABLE != 0).then_some(ConfigAddress {
            bus: (self.address >> 16) as u8,
            device: (self.address >> 11) as u8 & 0x1f,
            function: (self.address >> 8) as u8 & 0x7,
            register: (self.address & 0xfc) as usize + byte as usize,
        })
    }
}

impl BusDevice for Ports {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match self.target(offset) {
            Some(address) => self.slots.read(address, data),
            // Only a whole double word is the address register; narrower accesses belong to no one.
            None if offset == 0 && data.len() == 4 => read_image(&self.address.to_le_bytes(), 0, data),
            None => {
                data.fill(0xff);
                if let Some(reset) = self.reset(offset, data.len()) {
                    reset.lock().unwrap_or_else(PoisonError::into_inner).read(0, data);
                }
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (0, Ok(word)) = (offset, <[u8; 4]>::try_from(data)) {
            self.address = u32::from_le_bytes(word) & ADDRESS_BITS;
        } else if let Some(address) = self.target(offset) {
            self.slots.write(address, data);
        } else if let Some(reset) = self.reset(offset, data.len()) {
            reset.lock().unwrap_or_else(PoisonError::into_inner).write(0, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::BusDevice;
    use crate::pci::PciSegment;

    #[test]
    fn both_ways_reach_the_host_bridge() {
        let segment = PciSegment::new(0..0, 0..0);
        let (ecam, ports) = (segment.ecam(), segment.ports());
        let (mut ecam, mut ports) = (ecam.lock().unwrap(), ports.lock().unwrap());
        let mut word = [0; 4];
        ecam.read(0, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x0008_1b36);
        // What Linux does to find out whether there is mechanism #1.
        ports.write(3, &[1]);
        ports.write(0, &0x8000_0000_u32.to_le_bytes());
        ports.read(0, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x8000_0000);
        ports.write(0, &0x8000_0008_u32.to_le_bytes());
        let mut class = [0; 2];
        ports.read(6, &mut class);
        assert_eq!(class, [0x00, 0x06]);
        ports.write(0, &8_u32.to_le_bytes());
        ports.read(6, &mut class);
        assert_eq!(class, [0xff; 2]);
    }

    #[test]
    fn nobody_answers_as_all_ones() {
        let segment = PciSegment::new(0..0, 0..0);
        let (ecam, ports) = (segment.ecam(), segment.ports());
        let mut word = [0; 4];
        for offset in [1 << 12, 1 << 15, 1 << 20, 0xffe] {
            ecam.lock().unwrap().read(offset, &mut word);
            assert_eq!(word, [0xff; 4], "{offset:#x}");
        }
        for address in [0x8000_0100_u32, 0x8000_0800, 0x8001_0000] {
            ports.lock().unwrap().write(0, &address.to_le_bytes());
            ports.lock().unwrap().read(4, &mut word);
            assert_eq!(word, [0xff; 4], "{address:#x}");
        }
    }

    struct Byte(u8);

    impl BusDevice for Byte {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            assert_eq!((offset, data.len()), (0, 1));
            data[0] = self.0;
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            assert_eq!((offset, data.len()), (0, 1));
            self.0 = data[0];
        }
    }

    #[test]
    fn the_reset_register_is_a_byte_of_its_own() {
        let byte = Arc::new(Mutex::new(Byte(1)));
        let ports = PciSegment::new(0..0, 0..0).ports_with_reset(byte.clone());
        let mut ports = ports.lock().unwrap();
        ports.write(0, &0x8000_0600_u32.to_le_bytes());
        ports.write(1, &[2, 3]);
        ports.write(0, &[4]);
        ports.write(2, &[4]);
        assert_eq!(byte.lock().unwrap().0, 1);
        ports.write(1, &[6]);
        let (mut read, mut word) = ([0], [0; 4]);
        ports.read(1, &mut read);
        ports.read(0, &mut word);
        assert_eq!((read, u32::from_le_bytes(word)), ([6], 0x8000_0600));
        let mut none = [0];
        PciSegment::new(0..0, 0..0).ports().lock().unwrap().read(1, &mut none);
        assert_eq!(none, [0xff]);
    }
}
