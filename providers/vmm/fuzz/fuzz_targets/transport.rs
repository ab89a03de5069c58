//! A driver that does anything at all to a virtio device on PCI: configuration space by ports and by memory, the BAR
//! wherever it is, and the device signalling meanwhile. Nothing may panic, and in the end a reset must bring status
//! back to 0.
//!
//! Run it with `scripts/fuzz.sh 60 transport`.

#![no_main]

use std::io;
use std::sync::{Arc, Mutex};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use posada_vmm::bus::Bus;
use posada_vmm::interrupt::{MsiMessage, Vector, VectorSource};
use posada_vmm::pci::PciSegment;
use posada_vmm::virtio::transport::{IoEvents, VirtioPci};
use posada_vmm::virtio::{Activation, VirtioDevice};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

const SLOT: u64 = 1;
const BAR: u64 = 0x40_0000_0000;
const ECAM: u64 = 0xe000_0000;
const RAM: usize = 1 << 20;

#[derive(Arbitrary, Debug)]
enum Step {
    Config {
        register: u8,
        data: Data,
    },
    Ecam {
        offset: u16,
        data: Data,
    },
    Bar {
        offset: u16,
        data: Data,
    },
    Common {
        offset: u8,
        data: Data,
    },
    /// Sets a register of a queue to something that may be good.
    Queue {
        register: u8,
        page: u8,
    },
    Status(u8),
    /// Resets, and agrees on all that is offered.
    Agree,
    Signal(u16),
    NeedsReset,
}

/// An access: its length, what is written, and whether it is a write.
#[derive(Arbitrary, Debug)]
struct Data {
    length: u8,
    bytes: [u8; 8],
    write: bool,
}

impl Data {
    fn apply(&self, bus: &Bus, address: u64, limit: u8) {
        let mut bytes = self.bytes;
        let bytes = &mut bytes[..usize::from(self.length % limit) + 1];
        if self.write { bus.write(address, bytes) } else { bus.read(address, bytes) }
    }
}

#[derive(Default)]
struct Fakes(Mutex<Option<Activation>>);

struct Device(Arc<Fakes>);

impl VirtioDevice for Device {
    fn kind(&self) -> u32 {
        1
    }

    fn queues(&self) -> &[u16] {
        &[256, 256, 64]
    }

    fn features(&self) -> u64 {
        1 << 29 | 1 << 28
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(offset as u8);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        // What a device does first; nothing of it may fail for a queue that the transport let pass.
        let mut activation = activation;
        for queue in &mut activation.queues {
            queue.silence().expect("the used ring lies in memory");
        }
        assert!(self.0.0.lock().unwrap().replace(activation).is_none(), "activated twice");
        Ok(())
    }

    fn reset(&mut self) {
        self.0.0.lock().unwrap().take();
    }
}

struct Line;

impl Vector for Line {
    fn route(&self, _: Option<MsiMessage>) -> io::Result<()> {
        Ok(())
    }

    fn trigger(&self) {}
}

impl VectorSource for Fakes {
    fn vector(&self) -> io::Result<Arc<dyn Vector>> {
        Ok(Arc::new(Line))
    }
}

#[derive(Default)]
struct Events(Mutex<Vec<u64>>);

impl IoEvents for Events {
    fn add(&self, address: u64, _: &EventFd) -> io::Result<()> {
        let mut events = self.0.lock().unwrap();
        assert!(!events.contains(&address), "added twice");
        events.push(address);
        Ok(())
    }

    fn remove(&self, address: u64, _: &EventFd) -> io::Result<()> {
        let mut events = self.0.lock().unwrap();
        let index = events.iter().position(|other| *other == address).expect("removed what was not added");
        events.remove(index);
        Ok(())
    }
}

fn bar(mmio: &Bus) -> u64 {
    let mut address = [0; 8];
    mmio.read(ECAM + (SLOT << 15) + 0x10, &mut address);
    u64::from_le_bytes(address) & !0xf
}

fn agree(mmio: &Bus, bar: u64) {
    let common = |register: u64, data: &[u8]| mmio.write(bar.wrapping_add(register), data);
    common(20, &[0]);
    common(20, &[3]);
    for page in 0..2_u32 {
        let mut offered = [0; 4];
        common(0, &page.to_le_bytes());
        mmio.read(bar.wrapping_add(4), &mut offered);
        common(8, &page.to_le_bytes());
        common(12, &offered);
    }
    common(20, &[0xb]);
}

fuzz_target!(|steps: Vec<Step>| {
    let (mmio, fakes, events) = (Arc::<Bus>::default(), Arc::<Fakes>::default(), Arc::<Events>::default());
    let ram = Arc::new(posada_vmm::memory::allocate(&[(GuestAddress(0), RAM)]).unwrap());
    let device = Box::new(Device(fakes.clone()));
    let mut segment = PciSegment::new(0xc000_0000..0xd000_0000, BAR..BAR + 0x1000_0000);
    segment.add(SLOT as u8, VirtioPci::new(device, ram, fakes.clone(), events.clone(), &mmio)).unwrap();
    mmio.insert(ECAM..ECAM + posada_vmm::pci::ECAM_SIZE, segment.ecam()).unwrap();
    let ports = Bus::default();
    ports.insert(posada_vmm::pci::PORTS, segment.ports()).unwrap();
    mmio.write(ECAM + (SLOT << 15) + 4, &[2, 0]);

    let interrupt = || fakes.0.lock().unwrap().as_ref().map(|active| active.interrupt.clone());
    for step in steps {
        match step {
            Step::Config { register, data } => {
                let address = 0x8000_0000 | (SLOT as u32) << 11 | u32::from(register & 0xfc);
                ports.write(0xcf8, &address.to_le_bytes());
                data.apply(&ports, 0xcfc + u64::from(register & 3), 4);
            }
            Step::Ecam { offset, data } => {
                data.apply(&mmio, ECAM + (SLOT << 15) + u64::from(offset & 0xfff), 8)
            }
            Step::Bar { offset, data } => data.apply(&mmio, bar(&mmio).wrapping_add(offset.into()), 8),
            Step::Common { offset, data } => {
                data.apply(&mmio, bar(&mmio).wrapping_add((offset & 63).into()), 8)
            }
            Step::Queue { register, page } => {
                let (at, value) = match register % 5 {
                    0 => (32, u64::from(page) << 12),
                    1 => (40, u64::from(page) << 12),
                    2 => (48, u64::from(page) << 12),
                    3 => (22, u64::from(page % 4)),
                    _ => (28, 1),
                };
                let length = if at >= 32 { 8 } else { 2 };
                mmio.write(bar(&mmio).wrapping_add(at), &value.to_le_bytes()[..length]);
            }
            Step::Status(value) => mmio.write(bar(&mmio).wrapping_add(20), &[value]),
            Step::Agree => agree(&mmio, bar(&mmio)),
            Step::Signal(queue) => {
                if let Some(interrupt) = interrupt() {
                    interrupt.queue(queue);
                    interrupt.config();
                }
            }
            Step::NeedsReset => {
                if let Some(interrupt) = interrupt() {
                    interrupt.needs_reset();
                }
            }
        }
    }

    for (register, data) in [(0x10, (BAR as u32)), (0x14, (BAR >> 32) as u32), (4, 2)] {
        mmio.write(ECAM + (SLOT << 15) + register, &data.to_le_bytes());
    }
    mmio.write(BAR + 20, &[0]);
    let mut status = [0xff];
    mmio.read(BAR + 20, &mut status);
    assert_eq!(status, [0]);
    assert!(fakes.0.lock().unwrap().is_none() && events.0.lock().unwrap().is_empty());
});
