//! The device's thread: takes requests out of the queues and gives replies back.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use crate::config::Owners;
use crate::fuse::{Answer, Server, identity};
use crate::memory::GuestRam;
use crate::virtio::buffers::{Buffers, Split};
use crate::virtio::queue::Chain;
use crate::virtio::{Activation, ActiveQueue, DeviceError, Interrupt};
use crate::worker::{Handler, Poll};

/// The token of the end of a wait for a lock; queues have theirs by their place.
const LOCKS: u64 = u64::MAX - 1;
/// How many requests are served before the thread looks whether it is to end.
const AT_ONCE: usize = 256;

/// What serves the queues of an active device.
pub struct FsWorker {
    server: Server,
    owners: Owners,
    /// Whether this thread acts as the folder's owner yet.
    assumed: bool,
    ram: Arc<GuestRam>,
    interrupt: Arc<dyn Interrupt>,
    /// The urgent one first.
    queues: Vec<ActiveQueue>,
    /// Requests that wait for a lock.
    waiting: HashMap<u64, Waiting>,
}

/// A request that is not replied to yet.
struct Waiting {
    /// The place of its queue.
    place: usize,
    /// Its chain's first descriptor.
    head: u16,
    /// Where the reply goes.
    room: Buffers,
}

impl FsWorker {
    pub fn new(server: Server, owners: Owners, activation: Activation) -> Self {
        let Activation { ram, queues, interrupt, .. } = activation;
        Self { server, owners, assumed: false, ram, interrupt, queues, waiting: HashMap::new() }
    }

    /// Serves what is available, up to [`AT_ONCE`] requests. Returns whether there may be more.
    fn serve(&mut self) -> Result<bool, DeviceError> {
        for _ in 0..AT_ONCE {
            let mut next = None;
            for (place, queue) in self.queues.iter_mut().enumerate() {
                if let Some(chain) = queue.pop()? {
                    next = Some((place, chain));
                    break;
                }
            }
            let Some((place, chain)) = next else { return Ok(false) };
            self.perform(place, chain)?;
        }
        Ok(true)
    }

    fn perform(&mut self, place: usize, chain: Chain) -> Result<(), DeviceError> {
        let Split { head, readable, writable } = Split::new(chain, &self.ram)?;
        match self.server.handle(readable, &writable) {
            Answer::Replied(len) => self.give_back(place, head, len),
            Answer::Silent => self.give_back(place, head, 0),
            Answer::Waits(wait) => {
                self.waiting.insert(wait, Waiting { place, head, room: writable });
                Ok(())
            }
        }
    }

    fn give_back(&mut self, place: usize, head: u16, len: usize) -> Result<(), DeviceError> {
        let queue = &mut self.queues[place];
        queue.push(head, u32::try_from(len).unwrap_or(u32::MAX))?;
        Ok(queue.signal()?)
    }

    /// Replies to requests whose wait for a lock has ended.
    fn finish(&mut self) -> Result<(), DeviceError> {
        for finished in self.server.finished() {
            let Some(Waiting { place, head, room }) = self.waiting.remove(&finished.wait) else { continue };
            let len = room.write_at(0, &finished.reply);
            self.give_back(place, head, len)?;
        }
        Ok(())
    }

    fn run(&mut self, token: u64) -> Result<(), DeviceError> {
        if token == LOCKS {
            return self.finish();
        }
        if let Some(queue) = usize::try_from(token).ok().and_then(|place| self.queues.get(place)) {
            // Empty where the other queue's kick was served together with this one's.
            let _ = queue.kick().read();
        }
        for queue in &mut self.queues {
            queue.silence()?;
        }
        let mut more = self.serve()?;
        for queue in &mut self.queues {
            more |= queue.listen()?;
        }
        if more && let Some(queue) = self.queues.first() {
            // As if the driver had kicked: a thread that is told to end sees that in between, however busy the queues.
            // A kick that cannot be written is there already.
            let _ = queue.kick().write(1);
        }
        Ok(())
    }
}

impl Handler for FsWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        for (place, queue) in self.queues.iter().enumerate() {
            poll.add_event(queue.kick(), place as u64)?;
        }
        poll.add_event(self.server.event(), LOCKS)
    }

    fn handle(&mut self, token: u64, _: EventFlags, _: &Poll) -> ControlFlow<()> {
        if !self.assumed {
            if identity::assume(&self.owners).is_err() {
                self.interrupt.needs_reset();
                return ControlFlow::Break(());
            }
            self.assumed = true;
        }
        if self.run(token).is_err() {
            self.interrupt.needs_reset();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
