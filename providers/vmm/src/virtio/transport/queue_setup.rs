//! A queue as the driver describes it before the device is active.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use crate::memory::GuestRam;

/// What the driver has set, in the registers of the common configuration that belong to a queue.
#[derive(Debug, Clone)]
pub(super) struct QueueSetup {
    max: u16,
    pub size: u16,
    pub enabled: bool,
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
}

impl QueueSetup {
    /// A queue of at most `max` descriptors, as after a reset.
    pub fn new(max: u16) -> Self {
        Self { max, size: max, enabled: false, descriptors: 0, driver: 0, device: 0 }
    }

    /// Takes back all that the driver has set.
    pub fn reset(&mut self) {
        *self = Self::new(self.max);
    }

    /// The queue, if its size is a power of two within the limit, its parts are aligned (virtio 1.2, section 2.7) and
    /// all of them lie in `ram`.
    pub fn build(&self, ram: &GuestRam, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(self.max).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.driver)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.device)).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue.is_valid(ram).then_some(queue)
    }
}
