//! The device's thread.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll::EventFlags;

use super::handle::Shared;
use super::pages::{discard, discard_all};
use super::{DEFLATE, F_PAGE_POISON, F_PAGE_REPORTING, INFLATE};
use crate::virtio::buffers::Split;
use crate::virtio::queue::Chain;
use crate::virtio::{Activation, ActiveQueue, DeviceError};
use crate::worker::{Handler, Poll};

/// Most bytes of page numbers in one chain; Linux sends 1 KiB, Windows 4 KiB.
const MOST: usize = 64 << 10;

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Inflate,
    Deflate,
    Report,
}

pub(super) struct BalloonWorker {
    queues: Vec<(Purpose, ActiveQueue)>,
    poisons: bool,
    shared: Arc<Shared>,
    /// Page numbers of one chain; kept for its allocation.
    numbers: Vec<u32>,
}

impl BalloonWorker {
    /// `None` where a queue is missing.
    pub(super) fn new(activation: Activation, shared: Arc<Shared>) -> Option<Self> {
        let has = |bit: u32| activation.features >> bit & 1 == 1;
        let (reports, poisons) = (has(F_PAGE_REPORTING), has(F_PAGE_POISON));
        let purpose = |queue: &ActiveQueue| match queue.index() {
            INFLATE => Some(Purpose::Inflate),
            DEFLATE => Some(Purpose::Deflate),
            _ => reports.then_some(Purpose::Report),
        };
        let queues: Vec<_> =
            activation.queues.into_iter().filter_map(|queue| Some((purpose(&queue)?, queue))).collect();
        let there = |wanted| queues.iter().any(|(purpose, _)| *purpose == wanted);
        (there(Purpose::Inflate) && there(Purpose::Deflate)).then_some(Self {
            queues,
            poisons,
            shared,
            numbers: Vec::new(),
        })
    }

    fn serve(&mut self, at: usize) -> Result<(), DeviceError> {
        for _ in 0..self.queues[at].1.size() {
            let (purpose, queue) = &mut self.queues[at];
            let Some(chain) = queue.pop()? else {
                if queue.listen()? {
                    continue;
                }
                return Ok(queue.signal()?);
            };
            let (purpose, head) = (*purpose, chain.head_index());
            match purpose {
                Purpose::Inflate => self.inflate(at, chain)?,
                // A page taken back is there as soon as it is touched.
                Purpose::Deflate => {}
                Purpose::Report => self.report(at, chain)?,
            }
            self.queues[at].1.push(head, 0)?;
        }
        let queue = &mut self.queues[at].1;
        queue.look_again();
        Ok(queue.signal()?)
    }

    /// The chain holds page numbers (virtio 1.2, section 5.5.6).
    fn inflate(&mut self, at: usize, chain: Chain) -> Result<(), DeviceError> {
        let ram = self.queues[at].1.ram();
        let Split { readable, writable, .. } = Split::new(chain, ram)?;
        if !writable.is_empty() || readable.len() % 4 != 0 || readable.len() > MOST {
            return Err(DeviceError::Request);
        }
        let mut bytes = vec![0; readable.len()];
        readable.read_at(0, &mut bytes);
        self.numbers.clear();
        self.numbers.extend(bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)));
        discard_all(ram, &mut self.numbers)
    }

    /// The chain's buffers are free pages (virtio 1.2, section 5.5.6.7). The driver must find in them what it fills
    /// free pages with; where that is not zero, they stay as they are.
    fn report(&self, at: usize, chain: Chain) -> Result<(), DeviceError> {
        let keeps = self.poisons && self.shared.poison.load(Ordering::Relaxed) != 0;
        for buffer in chain {
            if !buffer.is_write_only() {
                return Err(DeviceError::Request);
            }
            if !keeps {
                discard(self.queues[at].1.ram(), buffer.addr().0, u64::from(buffer.len()))?;
            }
        }
        Ok(())
    }
}

impl Handler for BalloonWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        for (at, (_, queue)) in self.queues.iter().enumerate() {
            poll.add_event(queue.kick(), at as u64)?;
            // What the driver has made available before the device was active.
            queue.look_again();
        }
        Ok(())
    }

    fn handle(&mut self, token: u64, _: EventFlags, _: &Poll) -> ControlFlow<()> {
        let at = token as usize;
        self.queues[at].1.kicked();
        if self.serve(at).is_err() {
            self.queues[at].1.needs_reset();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
