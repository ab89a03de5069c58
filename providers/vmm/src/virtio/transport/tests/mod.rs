//! The transport without a hypervisor: a machine of one device, its driver, and fakes below.

mod driver;
mod hostile;
mod interrupts;
mod relocation;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::{IoEvents, VirtioPci};
use crate::bus::{Bus, SharedDevice};
use crate::interrupt::{MsiMessage, Vector, VectorSource};
use crate::pci::{PORTS, PciSegment};
use crate::virtio::{Activation, VirtioDevice};

const QUEUES: [u16; 2] = [256, 64];
const FEATURES: u64 = 1 << 29 | 1 << 5;
const RAM: u64 = 1 << 20;
const SLOT: u8 = 3;
const BAR: u64 = 0x40_0000_0000;

/// What the device was told, and what it shows.
#[derive(Default)]
struct Log {
    activation: Mutex<Option<Activation>>,
    resets: Mutex<u32>,
    fail: AtomicBool,
    config: Mutex<[u8; 12]>,
    dropped: AtomicBool,
}

struct Device(Arc<Log>);

impl VirtioDevice for Device {
    fn kind(&self) -> u32 {
        2
    }

    fn queues(&self) -> &[u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.0.config.lock().unwrap();
        for (byte, at) in data.iter_mut().zip(offset as usize..config.len()) {
            *byte = config[at];
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut config = self.0.config.lock().unwrap();
        for (byte, at) in data.iter().zip(offset as usize..config.len()) {
            config[at] = *byte;
        }
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        assert!(self.0.activation.lock().unwrap().replace(activation).is_none(), "activated twice");
        if self.0.fail.load(SeqCst) { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    fn reset(&mut self) {
        self.0.activation.lock().unwrap().take();
        *self.0.resets.lock().unwrap() += 1;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.0.activation.lock().unwrap().take();
        self.0.dropped.store(true, SeqCst);
    }
}

/// What a line was told: its routes, and for each trigger the message it delivered.
#[derive(Default)]
struct Line {
    routes: Mutex<Vec<Option<MsiMessage>>>,
    delivered: Mutex<Vec<Option<MsiMessage>>>,
}

impl Vector for Line {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        self.routes.lock().unwrap().push(message);
        Ok(())
    }

    fn trigger(&self) {
        let message = self.routes.lock().unwrap().last().copied().flatten();
        self.delivered.lock().unwrap().push(message);
    }
}

#[derive(Default)]
struct Hypervisor {
    lines: Mutex<Vec<Arc<Line>>>,
    no_more_lines: AtomicBool,
    events: Mutex<Vec<(u64, EventFd)>>,
    no_events: AtomicBool,
}

impl Hypervisor {
    fn event_addresses(&self) -> Vec<u64> {
        self.events.lock().unwrap().iter().map(|(address, _)| *address).collect()
    }
}

impl VectorSource for Hypervisor {
    fn vector(&self) -> io::Result<Arc<dyn Vector>> {
        if self.no_more_lines.load(SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let line = Arc::new(Line::default());
        self.lines.lock().unwrap().push(line.clone());
        Ok(line)
    }
}

impl IoEvents for Hypervisor {
    fn add(&self, address: u64, event: &EventFd) -> io::Result<()> {
        if self.no_events.load(SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut events = self.events.lock().unwrap();
        assert!(events.iter().all(|(other, _)| *other != address), "{address:#x} added twice");
        events.push((address, event.try_clone()?));
        Ok(())
    }

    fn remove(&self, address: u64, _: &EventFd) -> io::Result<()> {
        let mut events = self.events.lock().unwrap();
        let index =
            events.iter().position(|(other, _)| *other == address).expect("removed what was not added");
        events.remove(index);
        Ok(())
    }
}

/// A machine of one device, as its guest's CPU sees it.
struct Machine {
    mmio: Arc<Bus>,
    ports: SharedDevice,
    segment: PciSegment,
    hypervisor: Arc<Hypervisor>,
    log: Arc<Log>,
}

impl Machine {
    fn new() -> Self {
        let (mmio, hypervisor, log) =
            (Arc::<Bus>::default(), Arc::<Hypervisor>::default(), Arc::<Log>::default());
        let ram = Arc::new(crate::memory::allocate(&[(GuestAddress(0), RAM as usize)]).unwrap());
        let device = Box::new(Device(log.clone()));
        let function = VirtioPci::new(device, ram, hypervisor.clone(), hypervisor.clone(), &mmio);
        let mut segment = PciSegment::new(0xc000_0000..0xd000_0000, BAR..BAR + 0x1000_0000);
        segment.add(SLOT, function).unwrap();
        mmio.insert(0xe000_0000..0xe010_0000, segment.ecam()).unwrap();
        let ports = segment.ports();
        Self { mmio, ports, segment, hypervisor, log }
    }

    /// Reads a register of the device's configuration space by the ports.
    fn config_read(&self, register: u64, data: &mut [u8]) {
        let mut ports = self.ports.lock().unwrap();
        let address = 0x8000_0000 | u32::from(SLOT) << 11 | register as u32 & 0xfc;
        ports.write(0, &address.to_le_bytes());
        ports.read(0xcfc - PORTS.start + register % 4, data);
    }

    /// Writes one.
    fn config_write(&self, register: u64, data: &[u8]) {
        let mut ports = self.ports.lock().unwrap();
        let address = 0x8000_0000 | u32::from(SLOT) << 11 | register as u32 & 0xfc;
        ports.write(0, &address.to_le_bytes());
        ports.write(0xcfc - PORTS.start + register % 4, data);
    }

    fn config32(&self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.config_read(register, &mut data);
        u32::from_le_bytes(data)
    }

    fn config8(&self, register: u64) -> u8 {
        let mut data = [0];
        self.config_read(register, &mut data);
        data[0]
    }

    fn read32(&self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.mmio.read(address, &mut data);
        u32::from_le_bytes(data)
    }

    fn read16(&self, address: u64) -> u16 {
        self.read32(address) as u16
    }

    fn read8(&self, address: u64) -> u8 {
        let mut data = [0];
        self.mmio.read(address, &mut data);
        data[0]
    }

    fn write32(&self, address: u64, value: u32) {
        self.mmio.write(address, &value.to_le_bytes());
    }

    fn write16(&self, address: u64, value: u16) {
        self.mmio.write(address, &value.to_le_bytes());
    }

    fn write8(&self, address: u64, value: u8) {
        self.mmio.write(address, &[value]);
    }
}
