//! The driver's side of a queue, for the tests of devices.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, ActiveQueue, Interrupt};
use crate::memory::GuestRam;

/// Long enough for any busy machine; nothing waits for it that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the queues' rings lie; buffers are anywhere below.
const RINGS: u64 = 0x100_0000;
/// Room for one queue's rings.
const RING_ROOM: u64 = 0x1_0000;
/// How much memory there is.
pub(crate) const MEMORY: usize = 0x200_0000;

/// What a device has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Queue(u16),
    Config,
    NeedsReset,
}

struct Signals(Mutex<Sender<Signal>>);

impl Signals {
    fn say(&self, signal: Signal) {
        // A test that listens no more has seen what it wanted.
        let _ = self.0.lock().unwrap().send(signal);
    }
}

impl Interrupt for Signals {
    fn queue(&self, index: u16) {
        self.say(Signal::Queue(index));
    }

    fn config(&self) {
        self.say(Signal::Config);
    }

    fn needs_reset(&self) {
        self.say(Signal::NeedsReset);
    }
}

/// A buffer of a chain: address, length, and whether the device may write it.
pub(crate) type Piece = (u64, u32, bool);

/// A machine with memory and a driver that has set up queues.
pub(crate) struct Guest {
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) queues: Vec<DriverQueue>,
    signals: Receiver<Signal>,
}

/// One queue as its driver sees it.
pub(crate) struct DriverQueue {
    ram: Arc<GuestRam>,
    pub(crate) kick: EventFd,
    size: u16,
    base: u64,
    next: u16,
    available: u16,
    seen: u16,
}

impl Guest {
    /// A guest with queues of these sizes, and what its device is activated with.
    pub(crate) fn new(sizes: &[u16], features: u64) -> (Self, Activation) {
        let ram = Arc::new(crate::memory::allocate(&[(GuestAddress(0), MEMORY)]).unwrap());
        let (sender, signals) = mpsc::channel();
        let interrupt: Arc<dyn Interrupt> = Arc::new(Signals(Mutex::new(sender)));
        let event_idx = features >> virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX & 1 == 1;
        let mut active = Vec::new();
        let mut queues = Vec::new();
        for (index, &size) in sizes.iter().enumerate() {
            let base = RINGS + index as u64 * RING_ROOM;
            ram.write_slice(&vec![0; RING_ROOM as usize], GuestAddress(base)).unwrap();
            let mut queue = Queue::new(size).unwrap();
            queue.set_size(size);
            queue.set_desc_table_address(Some(base as u32), Some(0));
            queue.set_avail_ring_address(Some((base + 0x8000) as u32), Some(0));
            queue.set_used_ring_address(Some((base + 0xc000) as u32), Some(0));
            queue.set_event_idx(event_idx);
            queue.set_ready(true);
            assert!(queue.is_valid(&*ram));
            let kick = EventFd::new(EFD_NONBLOCK).unwrap();
            let driver = DriverQueue {
                ram: ram.clone(),
                kick: kick.try_clone().unwrap(),
                size,
                base,
                next: 0,
                available: 0,
                seen: 0,
            };
            queues.push(driver);
            active.push(ActiveQueue::new(index as u16, queue, kick, ram.clone(), interrupt.clone()));
        }
        let activation = Activation { ram: ram.clone(), features, queues: active, interrupt };
        (Self { ram, queues, signals }, activation)
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.ram.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.ram.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Waits for the next thing the device says.
    pub(crate) fn signal(&self) -> Signal {
        self.signals.recv_timeout(PATIENCE).expect("the device says nothing")
    }

    /// Waits until queue `index` has a used chain, and takes it: its head, and how much was written.
    pub(crate) fn wait_used(&mut self, index: usize) -> (u16, u32) {
        loop {
            if let Some(used) = self.queues[index].used() {
                return used;
            }
            let signal = self.signal();
            assert!(matches!(signal, Signal::Queue(_)), "{signal:?}");
        }
    }

    /// Waits until the device has asked for a reset.
    pub(crate) fn wait_needs_reset(&self) {
        while self.signal() != Signal::NeedsReset {}
    }

    /// What the device has said and nobody has heard yet.
    pub(crate) fn said(&self) -> Vec<Signal> {
        self.signals.try_iter().collect()
    }
}

impl DriverQueue {
    /// Writes descriptor `index` of the table.
    pub(crate) fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut raw = address.to_le_bytes().to_vec();
        raw.extend_from_slice(&length.to_le_bytes());
        raw.extend_from_slice(&flags.to_le_bytes());
        raw.extend_from_slice(&next.to_le_bytes());
        let at = self.base + u64::from(index) * 16;
        self.ram.write_slice(&raw, GuestAddress(at)).unwrap();
    }

    /// Makes the chain that begins at descriptor `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let ring = self.base + 0x8000;
        let slot = ring + 4 + u64::from(self.available % self.size) * 2;
        self.ram.write_obj(head, GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.ram.write_obj(self.available, GuestAddress(ring + 2)).unwrap();
    }

    /// Makes a chain of `pieces` available; returns its head. Descriptors are taken in turn, so a test keeps no more
    /// under way than the queue has.
    pub(crate) fn add(&mut self, pieces: &[Piece]) -> u16 {
        let head = self.next;
        for (at, &(address, length, writable)) in pieces.iter().enumerate() {
            let index = self.next;
            self.next = (self.next + 1) % self.size;
            let more = at + 1 < pieces.len();
            let flags = u16::from(more) | u16::from(writable) << 1;
            self.describe(index, address, length, flags, if more { self.next } else { 0 });
        }
        self.offer(head);
        head
    }

    /// Tells the device to look.
    pub(crate) fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Takes a used chain, if there is one.
    pub(crate) fn used(&mut self) -> Option<(u16, u32)> {
        let ring = self.base + 0xc000;
        let index: u16 = self.ram.read_obj(GuestAddress(ring + 2)).unwrap();
        if index == self.seen {
            return None;
        }
        let at = ring + 4 + u64::from(self.seen % self.size) * 8;
        self.seen = self.seen.wrapping_add(1);
        // With event indices: signal the very next one (virtio 1.2, section 2.7.7.1).
        let event = self.base + 0x8000 + 4 + u64::from(self.size) * 2;
        self.ram.write_obj(self.seen, GuestAddress(event)).unwrap();
        let head: u32 = self.ram.read_obj(GuestAddress(at)).unwrap();
        let length: u32 = self.ram.read_obj(GuestAddress(at + 4)).unwrap();
        Some((head as u16, length))
    }
}
