//! A driver that keeps to the rules, in the steps of Linux' own, and the rules it is held to.

use super::*;
use crate::virtio::Interrupt;

/// Where the driver has found the structures, and the message it wants for vector `n`: data `n`.
pub(super) struct Driver<'m> {
    pub machine: &'m Machine,
    pub common: u64,
    pub notify: u64,
    pub multiplier: u32,
    pub isr: u64,
    pub device: u64,
    pub table: u64,
    pub pending: u64,
    pub msix: u64,
    pub access: u64,
}

pub(super) const MSI_ADDRESS: u64 = 0xfee0_0000;
pub(super) const VERSION_1: u64 = 1 << 32;

impl<'m> Driver<'m> {
    /// Enables the function and walks its capabilities.
    pub fn probe(machine: &'m Machine) -> Self {
        assert_eq!(machine.config32(0), 0x1042_1af4);
        assert_eq!(machine.config32(8), 0x0180_0001);
        assert_eq!(machine.config32(0x2c) >> 16, 0x42);
        machine.config_write(4, &6_u16.to_le_bytes());
        let bar = u64::from(machine.config32(0x10) & !0xf) | u64::from(machine.config32(0x14)) << 32;
        assert_eq!(bar, BAR);
        assert_eq!(machine.config32(0x10) & 0xf, 4);
        let mut driver = Self {
            machine,
            common: 0,
            notify: 0,
            multiplier: 0,
            isr: 0,
            device: 0,
            table: 0,
            pending: 0,
            msix: 0,
            access: 0,
        };
        assert_ne!(machine.config32(4) >> 16 & 0x10, 0);
        let mut at = u64::from(machine.config8(0x34));
        while at != 0 {
            let place = bar + u64::from(machine.config32(at + 8));
            match (machine.config8(at), machine.config8(at + 3)) {
                (0x11, _) => {
                    driver.msix = at;
                    driver.table = bar + u64::from(machine.config32(at + 4));
                    driver.pending = bar + u64::from(machine.config32(at + 8));
                }
                (0x09, 1) => driver.common = place,
                (0x09, 2) => {
                    driver.notify = place;
                    driver.multiplier = machine.config32(at + 16);
                }
                (0x09, 3) => driver.isr = place,
                (0x09, 4) => driver.device = place,
                (0x09, 5) => driver.access = at,
                other => panic!("capability {other:x?}"),
            }
            at = machine.config8(at + 1).into();
        }
        assert!(
            [driver.common, driver.notify, driver.isr, driver.device, driver.table]
                .iter()
                .all(|at| *at >= bar)
        );
        driver
    }

    pub fn status(&self) -> u8 {
        self.machine.read8(self.common + 20)
    }

    pub fn add_status(&self, bits: u8) -> u8 {
        self.machine.write8(self.common + 20, self.status() | bits);
        self.status()
    }

    pub fn reset(&self) {
        self.machine.write8(self.common + 20, 0);
        assert_eq!(self.status(), 0);
    }

    pub fn offered(&self) -> u64 {
        let page = |page| {
            self.machine.write32(self.common, page);
            u64::from(self.machine.read32(self.common + 4))
        };
        assert_eq!(page(2), 0);
        page(0) | page(1) << 32
    }

    /// Resets, and negotiates `features`; returns device status.
    pub fn negotiate(&self, features: u64) -> u8 {
        self.reset();
        assert_eq!(self.add_status(1), 1);
        assert_eq!(self.add_status(2), 3);
        for page in 0..2 {
            self.machine.write32(self.common + 8, page);
            self.machine.write32(self.common + 12, (features >> (32 * page)) as u32);
        }
        self.add_status(8)
    }

    /// Enables MSI-X with `vectors` unmasked.
    pub fn enable_msix(&self, vectors: u32) {
        self.machine.config_write(self.msix + 2, &0xc000_u16.to_le_bytes());
        for vector in 0..vectors {
            self.set_message(vector, vector);
            self.mask(vector, false);
        }
        self.machine.config_write(self.msix + 2, &0x8000_u16.to_le_bytes());
    }

    pub fn set_message(&self, vector: u32, data: u32) {
        let entry = self.table + 16 * u64::from(vector);
        self.machine.write32(entry, MSI_ADDRESS as u32);
        self.machine.write32(entry + 4, 0);
        self.machine.write32(entry + 8, data);
    }

    pub fn mask(&self, vector: u32, masked: bool) {
        self.machine.write32(self.table + 16 * u64::from(vector) + 12, masked.into());
    }

    /// Describes and enables a queue, its parts one after the other from `base`. Returns its notification address.
    pub fn set_up_queue(&self, index: u16, size: u16, base: u64) -> u64 {
        let (machine, common) = (self.machine, self.common);
        machine.write16(common + 22, index);
        assert_eq!(machine.read16(common + 24), QUEUES[usize::from(index)]);
        assert_eq!(machine.read16(common + 28), 0);
        machine.write16(common + 24, size);
        for (register, address) in [(32, base), (40, base + 0x1000), (48, base + 0x2000)] {
            machine.write32(common + register, address as u32);
            machine.write32(common + register + 4, (address >> 32) as u32);
        }
        let offset = machine.read16(common + 30);
        machine.write16(common + 28, 1);
        self.notify + u64::from(offset) * u64::from(self.multiplier)
    }

    /// Sets the vectors: 0 for configuration, then one a queue.
    pub fn set_vectors(&self) {
        let (machine, common) = (self.machine, self.common);
        machine.write16(common + 16, 0);
        assert_eq!(machine.read16(common + 16), 0);
        for queue in 0..2 {
            machine.write16(common + 22, queue);
            machine.write16(common + 26, queue + 1);
            assert_eq!(machine.read16(common + 26), queue + 1);
        }
    }

    /// All of the above; returns the notification addresses.
    pub fn bring_up(&self) -> [u64; 2] {
        assert_eq!(self.negotiate(self.offered()), 0xb);
        self.enable_msix(3);
        self.set_vectors();
        let kicks = [self.set_up_queue(0, 128, 0x10000), self.set_up_queue(1, 64, 0x20000)];
        assert_eq!(self.add_status(4), 0xf);
        kicks
    }
}

#[test]
fn a_driver_brings_the_device_up_kicks_and_is_interrupted() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    assert_eq!(driver.offered(), FEATURES | VERSION_1);
    assert_eq!(machine.read16(driver.common + 18), 2);
    let kicks = driver.bring_up();
    assert_eq!(machine.hypervisor.event_addresses(), kicks);

    let active = machine.log.activation.lock().unwrap().take().unwrap();
    assert_eq!(active.features, FEATURES | VERSION_1);
    assert_eq!(
        active.queues.iter().map(|queue| (queue.index(), queue.size())).collect::<Vec<_>>(),
        [(0, 128), (1, 64)]
    );
    // The hypervisor writes the event it was given; one that lets the write pass leaves it to the transport.
    machine.hypervisor.events.lock().unwrap()[1].1.write(1).unwrap();
    assert_eq!(active.queues[1].kick().read().unwrap(), 1);
    machine.write16(kicks[0], 0);
    assert_eq!(active.queues[0].kick().read().unwrap(), 1);
    assert_eq!(active.queues[1].kick().read().unwrap_err().kind(), io::ErrorKind::WouldBlock);

    active.interrupt.queue(1);
    active.interrupt.config();
    let delivered =
        |line: usize| machine.hypervisor.lines.lock().unwrap()[line].delivered.lock().unwrap().clone();
    assert_eq!(delivered(0), [Some(MsiMessage { address: MSI_ADDRESS, data: 0 })]);
    assert_eq!(delivered(1), []);
    assert_eq!(delivered(2), [Some(MsiMessage { address: MSI_ADDRESS, data: 2 })]);
    assert_eq!(machine.read8(driver.isr), 2);
    assert_eq!(machine.read8(driver.isr), 0);

    let resets = *machine.log.resets.lock().unwrap();
    driver.reset();
    assert_eq!(*machine.log.resets.lock().unwrap(), resets + 1);
    assert!(machine.hypervisor.event_addresses().is_empty());
    machine.write16(driver.common + 22, 0);
    assert_eq!(machine.read16(driver.common + 24), 256);
    assert_eq!(machine.read16(driver.common + 26), 0xffff);
    driver.bring_up();
    assert!(machine.log.activation.lock().unwrap().is_some());
}

#[test]
fn features_must_be_offered_and_modern() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    assert_eq!(driver.negotiate(FEATURES), 3);
    assert_eq!(driver.negotiate(VERSION_1 | 1 << 6), 3);
    assert_eq!(driver.negotiate(VERSION_1 | 1 << 33), 3);
    assert_eq!(driver.negotiate(VERSION_1 | 1 << 5), 0xb);
    // Too late now.
    machine.write32(driver.common + 8, 0);
    machine.write32(driver.common + 12, 0);
    assert_eq!(machine.read32(driver.common + 12), 1 << 5);

    driver.reset();
    driver.add_status(3);
    for (page, value) in [(1, 1), (2, 1)] {
        machine.write32(driver.common + 8, page);
        machine.write32(driver.common + 12, value);
    }
    assert_eq!(driver.add_status(8), 3);
}

#[test]
fn status_takes_its_steps_in_order() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.reset();
    assert_eq!(driver.add_status(4), 0);
    machine.write32(driver.common + 8, 1);
    machine.write32(driver.common + 12, 1);
    assert_eq!(driver.add_status(8), 0);
    assert_eq!(driver.add_status(1 | 2 | 8 | 4 | 0x40), 0xf);
    assert!(machine.log.activation.lock().unwrap().is_some());
    // Bits are not taken back, and the device is activated once.
    machine.write8(driver.common + 20, 1);
    assert_eq!(driver.add_status(0x8f), 0x8f);
}

#[test]
fn a_queue_that_makes_no_sense_is_refused() {
    // Size not a power of two, too large, none; parts misaligned, beyond RAM, at the end of the address space.
    let bad = [
        (100, 0x1000),
        (512, 0x1000),
        (0, 0x1000),
        (128, 0x1001),
        (128, RAM - 16),
        (128, RAM - 0x2000),
        (128, u64::MAX - 0x200f),
    ];
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    for (size, base) in bad {
        driver.negotiate(VERSION_1);
        driver.set_up_queue(0, size, base);
        assert_eq!(driver.status(), 0x4b, "{size} descriptors at {base:#x}");
        assert_eq!(machine.read16(driver.common + 28), 0);
        driver.add_status(4);
        assert!(machine.log.activation.lock().unwrap().is_none());
    }
    driver.bring_up();
}

#[test]
fn queues_beyond_the_last_do_not_exist() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.negotiate(VERSION_1);
    machine.write16(driver.common + 22, 2);
    assert_eq!(machine.read16(driver.common + 24), 0);
    machine.write16(driver.common + 24, 8);
    machine.write16(driver.common + 26, 1);
    machine.write16(driver.common + 28, 1);
    assert_eq!(machine.read16(driver.common + 24), 0);
    assert_eq!(machine.read16(driver.common + 26), 0xffff);
    assert_eq!(driver.status(), 0xb);
}

#[test]
fn an_enabled_queue_is_final() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.negotiate(VERSION_1);
    driver.set_up_queue(0, 128, 0x1000);
    machine.write16(driver.common + 24, 64);
    machine.write32(driver.common + 32, 0);
    machine.write16(driver.common + 28, 0);
    assert_eq!(machine.read16(driver.common + 24), 128);
    assert_eq!(machine.read32(driver.common + 32), 0x1000);
    assert_eq!(machine.read16(driver.common + 28), 1);
}

#[test]
fn a_device_that_cannot_start_needs_a_reset() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    machine.log.fail.store(true, SeqCst);
    driver.negotiate(VERSION_1);
    driver.enable_msix(3);
    driver.set_vectors();
    driver.set_up_queue(0, 128, 0x10000);
    assert_eq!(driver.add_status(4), 0x4f);
    assert!(machine.hypervisor.event_addresses().is_empty());
    assert_eq!(machine.hypervisor.lines.lock().unwrap()[0].delivered.lock().unwrap().len(), 1);
    machine.log.fail.store(false, SeqCst);
    driver.bring_up();
}

#[test]
fn device_configuration_is_read_and_its_generation_follows_it() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    let generation = || machine.read8(driver.common + 21);
    machine.log.config.lock().unwrap()[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let before = generation();
    assert_eq!(machine.read32(driver.device + 4), 0x0807_0605);
    assert_eq!(machine.read32(driver.device + 10), 0);
    assert_eq!(generation(), before);
    machine.log.config.lock().unwrap()[0] = 9;
    assert_ne!(generation(), before);
    assert_eq!(generation(), generation());
    machine.write8(driver.device + 11, 0x77);
    assert_eq!(machine.log.config.lock().unwrap()[11], 0x77);
}

#[test]
fn configuration_space_reaches_the_bar() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    machine.config_write(4, &[0, 0]);
    let select = |offset: u32, length: u32| {
        machine.config_write(driver.access + 4, &[0]);
        machine.config_write(driver.access + 8, &offset.to_le_bytes());
        machine.config_write(driver.access + 12, &length.to_le_bytes());
    };
    let data = driver.access + 16;
    select(20, 1);
    machine.config_write(data, &[3]);
    assert_eq!(machine.config32(data), 3);
    select(0, 4);
    machine.config_write(data, &1_u32.to_le_bytes());
    select(4, 4);
    assert_eq!(machine.config32(data), 1);
    // What makes no sense reaches nothing.
    for (offset, length) in [(20, 3), (20, 8), (21, 2), (0x8000, 4), (0xffff_fffc, 4)] {
        select(offset, length);
        machine.config_write(data, &[0; 4]);
        machine.config32(data);
    }
    machine.config_write(4, &[2, 0]);
    assert_eq!(driver.status(), 3);
}

#[test]
fn accesses_of_any_size_see_the_same_registers() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.negotiate(VERSION_1);
    // Both halves of an address at once, and a register byte by byte.
    machine.mmio.write(driver.common + 32, &0x0123_4567_89ab_cdef_u64.to_le_bytes());
    assert_eq!(machine.read32(driver.common + 36), 0x0123_4567);
    machine.write8(driver.common + 33, 0);
    assert_eq!(machine.read32(driver.common + 32), 0x89ab_00ef);
    machine.write8(driver.common + 24, 64);
    machine.write8(driver.common + 25, 0);
    let mut all = [0; 8];
    machine.mmio.read(driver.common + 18, &mut all);
    assert_eq!(all, [2, 0, 0xb, all[3], 0, 0, 64, 0]);
}

#[test]
fn the_device_ends_with_its_segment() {
    let machine = Machine::new();
    Driver::probe(&machine).bring_up();
    let Machine { mmio, ports, segment, hypervisor, log } = machine;
    mmio.remove(0xe000_0000).unwrap();
    drop(ports);
    assert!(!log.dropped.load(SeqCst));
    let interrupt: Arc<dyn Interrupt> = log.activation.lock().unwrap().as_ref().unwrap().interrupt.clone();
    drop(segment);
    assert!(log.dropped.load(SeqCst));
    assert!(hypervisor.event_addresses().is_empty());
    let mut data = [0];
    mmio.read(BAR, &mut data);
    assert_eq!(data, [0xff]);
    interrupt.queue(0);
}
