//! A driver that does anything at all with a device's queues, some of it well-formed so that the device gets to work.

use std::sync::Arc;

use arbitrary::Arbitrary;
use posada_vmm::memory::GuestRam;
use posada_vmm::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const RAM: usize = 1 << 20;
/// Where the queues' rings lie; buffers are anywhere below.
const RINGS: u64 = 0x8_0000;
const RING_ROOM: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;

/// What the driver does next. Queues are counted modulo how many there are.
#[derive(Arbitrary, Debug, Clone)]
pub enum Step {
    /// Writes to memory.
    Memory { page: u8, bytes: Vec<u8> },
    /// Writes bytes and makes them available to be read.
    Send { queue: u8, bytes: Vec<u8> },
    /// Makes room available to be written.
    Give { queue: u8, page: u8, length: u16 },
    /// Writes whatever descriptor.
    Describe { queue: u8, index: u8, address: u64, length: u32, flags: u16, next: u16 },
    /// Makes whatever chain available.
    Offer { queue: u8, head: u16 },
    /// Says that as many chains are available.
    Available { queue: u8, index: u16 },
    /// Has the device look.
    Kick { queue: u8 },
    /// Writes to the configuration space, and reads it.
    Config { offset: u64, bytes: [u8; 4] },
    /// Resets the device and activates it again.
    Reset,
}

struct Deaf;

impl Interrupt for Deaf {
    fn queue(&self, _: u16) {}
    fn config(&self) {}
    fn needs_reset(&self) {}
}

struct DriverQueue {
    kick: EventFd,
    base: u64,
    size: u16,
    next: u16,
    available: u16,
}

/// A driver and its device.
pub struct Driver<'a, D> {
    device: &'a mut D,
    ram: Arc<GuestRam>,
    queues: Vec<DriverQueue>,
}

impl<'a, D: VirtioDevice> Driver<'a, D> {
    /// Sets up all queues of `device`, with all of its features, and activates it.
    pub fn new(device: &'a mut D) -> Self {
        let ram = Arc::new(posada_vmm::memory::allocate(&[(GuestAddress(0), RAM)]).unwrap());
        let mut driver = Self { device, ram, queues: Vec::new() };
        driver.activate();
        driver
    }

    fn activate(&mut self) {
        let interrupt: Arc<dyn Interrupt> = Arc::new(Deaf);
        self.queues.clear();
        let mut active = Vec::new();
        for (index, &size) in self.device.queues().iter().enumerate() {
            let base = RINGS + index as u64 * RING_ROOM;
            self.ram.write_slice(&[0; RING_ROOM as usize], GuestAddress(base)).unwrap();
            let mut queue = Queue::new(size).unwrap();
            queue.set_size(size);
            queue.set_desc_table_address(Some(base as u32), Some(0));
            queue.set_avail_ring_address(Some((base + AVAILABLE) as u32), Some(0));
            queue.set_used_ring_address(Some((base + USED) as u32), Some(0));
            queue.set_event_idx(true);
            queue.set_ready(true);
            let kick = EventFd::new(EFD_NONBLOCK).unwrap();
            let ours = kick.try_clone().unwrap();
            self.queues.push(DriverQueue { kick: ours, base, size, next: 0, available: 0 });
            active.push(ActiveQueue::new(index as u16, queue, kick, self.ram.clone(), interrupt.clone()));
        }
        let features = self.device.features();
        let activation = Activation { ram: self.ram.clone(), features, queues: active, interrupt };
        self.device.activate(activation).unwrap();
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let room = (RAM as u64 - address) as usize;
        self.ram.write_slice(&bytes[..bytes.len().min(room)], GuestAddress(address)).unwrap();
    }

    fn describe(&self, queue: usize, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let queue = &self.queues[queue];
        let mut raw = address.to_le_bytes().to_vec();
        raw.extend(length.to_le_bytes());
        raw.extend(flags.to_le_bytes());
        raw.extend(next.to_le_bytes());
        self.write(queue.base + u64::from(index % queue.size) * 16, &raw);
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let queue = &mut self.queues[queue];
        let ring = queue.base + AVAILABLE;
        let slot = ring + 4 + u64::from(queue.available % queue.size) * 2;
        queue.available = queue.available.wrapping_add(1);
        let available = queue.available;
        self.write(slot, &head.to_le_bytes());
        self.write(ring + 2, &available.to_le_bytes());
    }

    fn chain(&mut self, queue: usize, address: u64, length: u32, writable: bool) {
        let head = self.queues[queue].next;
        self.queues[queue].next = (head + 1) % self.queues[queue].size;
        self.describe(queue, head, address, length, u16::from(writable) << 1, 0);
        self.offer(queue, head);
        self.queues[queue].kick.write(1).unwrap();
    }

    /// Takes a step.
    pub fn step(&mut self, step: Step) {
        let count = self.queues.len();
        match step {
            Step::Memory { page, bytes } => self.write(u64::from(page) << 12, &bytes),
            Step::Send { queue, bytes } => {
                // Each queue has places of its own, so that what is under way stays as it was sent.
                let queue = usize::from(queue) % count;
                let place = u64::from(self.queues[queue].next % 64) << 13;
                let bytes = &bytes[..bytes.len().min(0x2000)];
                self.write(place, bytes);
                self.chain(queue, place, bytes.len() as u32, false);
            }
            Step::Give { queue, page, length } => {
                self.chain(usize::from(queue) % count, u64::from(page) << 11, length.into(), true);
            }
            Step::Describe { queue, index, address, length, flags, next } => {
                self.describe(usize::from(queue) % count, index.into(), address, length, flags, next);
            }
            Step::Offer { queue, head } => self.offer(usize::from(queue) % count, head),
            Step::Available { queue, index } => {
                let queue = &mut self.queues[usize::from(queue) % count];
                queue.available = index;
                let place = queue.base + AVAILABLE + 2;
                self.write(place, &index.to_le_bytes());
            }
            Step::Kick { queue } => self.queues[usize::from(queue) % count].kick.write(1).unwrap(),
            Step::Config { offset, bytes } => {
                self.device.write_config(offset, &bytes);
                let mut read = [0; 8];
                self.device.read_config(offset, &mut read);
            }
            Step::Reset => {
                self.device.reset();
                self.activate();
            }
        }
    }
}
