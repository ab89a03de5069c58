//! The balloon (virtio 1.2, section 5.5): gives memory the guest has no use for back to the host. The guest reports
//! free pages by itself, and hands over as many more as the host sets as its target.
//!
//! | Queue | What the driver puts there |
//! |---|---|
//! | 0 inflate | numbers of pages it gives away |
//! | 1 deflate | numbers of pages it takes back |
//! | 2, 3 or 4 reporting | free pages themselves, as buffers |
//!
//! By the specification the reporting queue is number 4. Linux counts only queues of features that are offered, which
//! makes it 2 here, as neither statistics nor hints are. Either is understood.

mod config;
mod handle;
mod pages;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

pub use handle::BalloonHandle;

use super::{Activation, VirtioDevice};
use crate::worker::{ThreadKind, Worker};
use handle::Shared;

/// Descriptors of each queue; a report of Linux takes 32.
const QUEUE: u16 = 128;

/// The queue of pages given away.
const INFLATE: u16 = 0;
/// The queue of pages taken back.
const DEFLATE: u16 = 1;

/// The driver may take pages back when it runs out of memory (section 5.5.3).
const F_DEFLATE_ON_OOM: u32 = 2;
/// The driver tells what it fills free pages with.
const F_PAGE_POISON: u32 = 4;
/// The driver reports free pages.
const F_PAGE_REPORTING: u32 = 5;

/// A guest's balloon.
pub struct Balloon {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

impl Balloon {
    /// An empty balloon, and the handle by which the host sets its target.
    #[must_use]
    pub fn new() -> (Self, BalloonHandle) {
        let shared = Arc::new(Shared::default());
        (Self { shared: shared.clone(), worker: None }, BalloonHandle::new(shared))
    }
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE; 5]
    }

    fn features(&self) -> u64 {
        [
            F_DEFLATE_ON_OOM,
            F_PAGE_POISON,
            F_PAGE_REPORTING,
            VIRTIO_RING_F_EVENT_IDX,
            VIRTIO_RING_F_INDIRECT_DESC,
        ]
        .iter()
        .fold(0, |all, bit| all | 1 << bit)
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config::read(&self.shared, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        config::write(&self.shared, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let interrupt = activation.interrupt.clone();
        let Some(worker) = worker::BalloonWorker::new(activation, self.shared.clone()) else {
            return Err(io::Error::other("the driver has not enabled both queues"));
        };
        self.worker = Some(Worker::start(ThreadKind::Stream, "balloon", worker)?);
        self.shared.changed.connect(interrupt);
        Ok(())
    }

    fn reset(&mut self) {
        self.shared.disconnect();
        self.worker = None;
    }
}

impl Drop for Balloon {
    fn drop(&mut self) {
        self.reset();
    }
}
