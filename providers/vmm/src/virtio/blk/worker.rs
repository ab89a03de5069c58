//! The thread of an active block device: takes requests out of all queues, and gives back those that have ended.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::request::{Limits, Outcome, Request, SERIAL};
use crate::block::{Image, Tasks, block_on};
use crate::memory::GuestRam;
use crate::virtio::{ActiveQueue, QueueError};
use crate::worker::{Handler, Poll};

/// The token of the engine; those of queues are their places.
const ENGINE: u64 = u64::MAX - 1;

pub(super) struct BlkWorker {
    ram: Arc<GuestRam>,
    image: Arc<Image>,
    queues: Vec<ActiveQueue>,
    /// Requests in flight; each ends with the place of its queue.
    tasks: Tasks<(usize, Outcome)>,
    ended: Vec<(usize, Outcome)>,
    limits: Limits,
    serial: [u8; SERIAL],
    /// The driver does not flush: each write is made durable before it ends (virtio 1.2, section 5.2.6.2).
    through: bool,
}

impl BlkWorker {
    pub fn new(
        ram: Arc<GuestRam>,
        image: Arc<Image>,
        queues: Vec<ActiveQueue>,
        serial: [u8; SERIAL],
        through: bool,
    ) -> Self {
        let limits = Limits { size: image.size(), read_only: image.read_only() };
        Self { ram, image, queues, tasks: Tasks::new(), ended: Vec::new(), limits, serial, through }
    }

    /// Takes and ends requests until there is nothing to do but wait.
    fn serve(&mut self) -> Result<(), QueueError> {
        loop {
            for queue in &mut self.queues {
                queue.silence()?;
            }
            self.work()?;
            let mut more = false;
            for queue in &mut self.queues {
                more |= queue.listen()?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn work(&mut self) -> Result<(), QueueError> {
        loop {
            let mut any = false;
            for place in 0..self.queues.len() {
                // Each queue at most as often as it has room, so that none is served for ever.
                for _ in 0..self.queues[place].size() {
                    let Some(chain) = self.queues[place].pop()? else { break };
                    let request = Request::parse(&self.ram, chain, self.limits);
                    let performed =
                        request.perform(self.ram.clone(), self.image.clone(), self.serial, self.through);
                    self.tasks.spawn(async move { (place, performed.await) });
                    any = true;
                }
            }
            any |= self.tasks.run(|outcome| self.ended.push(outcome));
            any |= self.image.engine().turn();
            any |= self.tasks.run(|outcome| self.ended.push(outcome));
            self.give_back()?;
            if !any {
                return Ok(());
            }
        }
    }

    /// Gives back what has ended, and signals each queue once.
    fn give_back(&mut self) -> Result<(), QueueError> {
        let mut touched = 0_u64;
        for (place, outcome) in self.ended.drain(..) {
            self.queues[place].push(outcome.head, outcome.written)?;
            touched |= 1 << place;
        }
        for (place, queue) in self.queues.iter_mut().enumerate() {
            if touched & 1 << place != 0 {
                queue.signal()?;
            }
        }
        Ok(())
    }
}

impl Handler for BlkWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        for (place, queue) in self.queues.iter().enumerate() {
            poll.add_event(queue.kick(), place as u64)?;
        }
        self.image.engine().with_fd(|fd| poll.add(fd, ENGINE, EventFlags::IN))
    }

    fn handle(&mut self, token: u64, _ready: EventFlags, _poll: &Poll) -> ControlFlow<()> {
        if let Some(queue) = usize::try_from(token).ok().and_then(|place| self.queues.get(place)) {
            // Not set is as good as read.
            let _ = queue.kick().read();
        }
        if self.serve().is_err() {
            if let Some(queue) = self.queues.first() {
                queue.needs_reset();
            }
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Drop for BlkWorker {
    /// Lets what is in flight end, unseen by the driver, and makes it durable.
    fn drop(&mut self) {
        loop {
            self.tasks.run(drop);
            if self.tasks.is_empty() {
                break;
            }
            self.image.engine().wait();
        }
        let image = self.image.clone();
        // Where that fails the sink has been told, and the guest's own flushes were never answered with success.
        let _ = block_on(self.image.engine(), async move { image.settle().await });
    }
}

/// Serves what a hostile driver has put into `queues`, to the end.
#[doc(hidden)]
pub fn fuzz_queue(ram: &Arc<GuestRam>, image: &Arc<Image>, queues: Vec<ActiveQueue>) {
    let mut worker = BlkWorker::new(ram.clone(), image.clone(), queues, [0; SERIAL], false);
    let mut result = worker.serve();
    while result.is_ok() && !worker.tasks.is_empty() {
        worker.image.engine().wait();
        result = worker.serve();
    }
}
