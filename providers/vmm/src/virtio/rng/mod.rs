//! The entropy device (virtio 1.2, section 5.4): one queue, whose buffers are filled with random bytes. It has neither
//! features of its own nor a configuration space.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;

use rustix::event::epoll::EventFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::buffers::Split;
use super::{Activation, ActiveQueue, DeviceError, VirtioDevice};
use crate::worker::{Handler, Poll, ThreadKind, Worker};

/// Descriptors of its queue. Linux keeps one buffer under way.
const QUEUE: u16 = 16;

/// Most bytes given for one chain; a driver that wants more asks again.
const MOST: usize = 4096;

const KICK: u64 = 0;

/// A source of entropy: the host's.
#[derive(Default)]
pub struct Rng {
    worker: Option<Worker>,
}

impl Rng {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, _: u64, _: &mut [u8]) {}

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let queue = activation.queues.pop();
        let queue = queue.ok_or_else(|| io::Error::other("the driver has not enabled the queue"))?;
        self.worker = Some(Worker::start(ThreadKind::Stream, "rng", RngWorker { queue })?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

struct RngWorker {
    queue: ActiveQueue,
}

impl RngWorker {
    fn serve(&mut self) -> Result<(), DeviceError> {
        // A driver that never stops asking does not keep the worker from being stopped.
        for _ in 0..self.queue.size() {
            let Some(chain) = self.queue.pop()? else {
                if self.queue.listen()? {
                    continue;
                }
                return Ok(self.queue.signal()?);
            };
            let Split { head, writable, .. } = Split::new(chain, self.queue.ram())?;
            let mut bytes = [0; MOST];
            let wanted = writable.len().min(MOST);
            let got = getrandom(&mut bytes[..wanted], GetRandomFlags::empty()).map_err(io::Error::from)?;
            let written = writable.write_at(0, &bytes[..got]);
            self.queue.push(head, written as u32)?;
        }
        self.queue.look_again();
        Ok(self.queue.signal()?)
    }
}

impl Handler for RngWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        poll.add_event(self.queue.kick(), KICK)
    }

    fn handle(&mut self, _: u64, _: EventFlags, _: &Poll) -> ControlFlow<()> {
        self.queue.kicked();
        if self.serve().is_err() {
            self.queue.needs_reset();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
