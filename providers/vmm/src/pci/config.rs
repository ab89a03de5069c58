//! The configuration space of a function: its bytes, which of their bits the guest can write, and the capability list
//! (PCI Local Bus 3.0, sections 6.1, 6.2 and 6.7).

use super::bytes::read_image;

/// How many bytes a function has, the extended space included.
const SIZE: usize = 4096;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const CACHE_LINE_SIZE: usize = 0x0c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const FIRST_CAPABILITY: usize = 0x40;
const END_OF_CAPABILITIES: usize = 0x100;

/// Where the BARs begin.
pub(super) const BARS: usize = 0x10;
/// How many registers there are for BARs.
pub(super) const BAR_COUNT: usize = 6;

const COMMAND_MEMORY: u16 = 1 << 1;
/// Memory space, bus master, parity error response, SERR# and interrupt disable. There is no I/O space to enable.
const COMMAND_WRITABLE: u16 = 0x0546;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Who a function says it is (PCI Local Bus 3.0, section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Base class, subclass and programming interface, from the highest byte down.
    pub class: u32,
    /// Vendor of the subsystem.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
}

/// A configuration space with a type 0 header.
pub struct ConfigSpace {
    bytes: Box<[u8]>,
    writable: Box<[u8]>,
    /// Where the pointer to the next capability goes.
    link: usize,
    /// Where the next capability goes.
    free: usize,
}

impl ConfigSpace {
    /// One without BARs and capabilities.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let (bytes, writable) = (vec![0; SIZE].into_boxed_slice(), vec![0; SIZE].into_boxed_slice());
        let mut config = Self { bytes, writable, link: CAPABILITIES, free: FIRST_CAPABILITY };
        config.set(0x00, &identity.vendor.to_le_bytes());
        config.set(0x02, &identity.device.to_le_bytes());
        config.set(0x08, &[identity.revision]);
        config.set(0x09, &identity.class.to_le_bytes()[..3]);
        config.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        config.set(0x2e, &identity.subsystem.to_le_bytes());
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.allow(CACHE_LINE_SIZE, &[0xff]);
        config.allow(INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Appends a capability with what follows its two first bytes, and the bits of that which the guest can write.
    /// Returns where it begins.
    ///
    /// # Panics
    /// Where the 192 bytes that there are for capabilities do not hold it.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.free;
        assert!(at + 2 + body.len() <= END_OF_CAPABILITIES, "capability {id:#x} does not fit");
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.allow(at + 2, writable);
        self.set(self.link, &[u8::try_from(at).unwrap_or_default()]);
        let status = self.u16(STATUS) | STATUS_CAPABILITIES;
        self.set(STATUS, &status.to_le_bytes());
        (self.link, self.free) = (at + 1, (at + 2 + body.len()).next_multiple_of(4));
        at
    }

    /// Reads at `offset`, as the guest does.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        read_image(&self.bytes, offset, data);
    }

    /// Writes at `offset`, as the guest does: bits that it cannot write stay as they are.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, new) in (offset..SIZE).zip(data) {
            let writable = self.writable[at];
            self.bytes[at] = self.bytes[at] & !writable | new & writable;
        }
    }

    /// Sets bytes at `offset`, as the device does.
    pub fn set(&mut self, offset: usize, data: &[u8]) {
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    /// Lets the guest write the bits of `mask` at `offset`.
    pub(super) fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable[offset..offset + mask.len()].copy_from_slice(mask);
    }

    /// The two bytes at `offset`.
    #[must_use]
    pub fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }

    /// The four bytes at `offset`.
    #[must_use]
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from(self.u16(offset)) | u32::from(self.u16(offset + 2)) << 16
    }

    /// Whether the guest lets the function answer at its memory BARs.
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.u16(COMMAND) & COMMAND_MEMORY != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ConfigSpace {
        ConfigSpace::new(Identity {
            vendor: 0x1234,
            device: 0x5678,
            revision: 9,
            class: 0x02_01_03,
            subsystem_vendor: 0xabcd,
            subsystem: 0xef01,
        })
    }

    #[test]
    fn header_is_laid_out_and_read_only() {
        let mut config = config();
        for at in [0, 8, 0x2c] {
            config.write(at, &[0; 4]);
        }
        assert_eq!(config.u32(0), 0x5678_1234);
        assert_eq!(config.u32(8), 0x02_01_03_09);
        assert_eq!(config.u32(0x2c), 0xef01_abcd);
        config.write(COMMAND, &[0xff; 4]);
        assert_eq!(config.u32(COMMAND), 0x0546);
        assert!(config.memory_enabled());
    }

    #[test]
    fn capabilities_are_linked() {
        let mut config = config();
        assert_eq!(config.u16(STATUS), 0);
        let first = config.add_capability(0x11, &[1, 2, 3], &[0, 0xf0, 0]);
        let second = config.add_capability(0x09, &[4], &[]);
        assert_eq!(config.u16(STATUS), STATUS_CAPABILITIES);
        assert_eq!(usize::from(config.u16(CAPABILITIES)), first);
        assert_eq!(config.u16(first), u16::from_le_bytes([0x11, second as u8]));
        assert_eq!(config.u16(second), 0x09);
        assert_eq!(second % 4, 0);
        config.write(first, &[0xff; 8]);
        let mut bytes = [0; 5];
        config.read(first, &mut bytes);
        assert_eq!(bytes, [0x11, second as u8, 1, 0xf2, 3]);
    }

    #[test]
    fn accesses_end_with_the_space() {
        let mut config = config();
        let mut data = [0xff; 8];
        config.write(SIZE - 2, &[1; 8]);
        config.read(SIZE - 2, &mut data);
        assert_eq!(data, [0; 8]);
    }
}
