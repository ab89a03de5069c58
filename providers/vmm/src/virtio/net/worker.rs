//! The device's thread: both directions in turn.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::receive::{self, Receiver};
use super::transmit::{self, Transmitter};
use super::wire::Wire;
use super::{RECEIVE, TRANSMIT};
use crate::virtio::{Activation, DeviceError};
use crate::worker::{Handler, Poll, Watch};

const WIRE: u64 = 0;
const BUFFERS: u64 = 1;
const FRAMES: u64 = 2;

pub(super) struct NetWorker {
    wire: Arc<Wire>,
    receiver: Receiver,
    transmitter: Transmitter,
    watch: Watch,
    /// What the wire is to be waited for.
    wanted: EventFlags,
    /// Whether the other end is gone for good. The guest's frames go nowhere from then on.
    cut: bool,
}

impl NetWorker {
    /// `None` where a queue is missing.
    pub(super) fn new(wire: Arc<Wire>, activation: Activation, largest: usize) -> Option<Self> {
        let features = activation.features;
        let mut queues = activation.queues;
        let mut take = |index| Some(queues.remove(queues.iter().position(|queue| queue.index() == index)?));
        let (receive, transmit) = (take(RECEIVE)?, take(TRANSMIT)?);
        Some(Self {
            receiver: Receiver::new(receive, wire.clone(), features, largest),
            transmitter: Transmitter::new(transmit, wire.clone()),
            wire,
            watch: Watch::new(WIRE),
            wanted: EventFlags::IN,
            cut: false,
        })
    }

    fn receive(&mut self) -> Result<(), DeviceError> {
        if self.cut {
            return Ok(());
        }
        match self.receiver.run()? {
            receive::Stopped::NoFrames | receive::Stopped::Turn => self.wanted.insert(EventFlags::IN),
            receive::Stopped::NoBuffers => self.wanted.remove(EventFlags::IN),
            receive::Stopped::Cut => {
                self.cut = true;
                // Frames that wait for the wire wait for nothing now.
                self.transmit()?;
                self.wanted = EventFlags::empty();
            }
        }
        Ok(())
    }

    fn transmit(&mut self) -> Result<(), DeviceError> {
        let full = self.transmitter.run()? == transmit::Stopped::Full;
        self.wanted.set(EventFlags::OUT, full);
        Ok(())
    }

    fn serve(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> Result<(), DeviceError> {
        match token {
            BUFFERS => {
                self.receiver.queue.kicked();
                self.receive()?;
            }
            FRAMES => {
                self.transmitter.queue.kicked();
                self.transmit()?;
            }
            _ => {
                if self.wanted.contains(EventFlags::OUT) {
                    self.transmit()?;
                }
                if ready != EventFlags::OUT {
                    self.receive()?;
                }
            }
        }
        Ok(self.watch.set(poll, &*self.wire, self.wanted)?)
    }
}

impl Handler for NetWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        self.watch.set(poll, &*self.wire, self.wanted)?;
        poll.add_event(self.receiver.queue.kick(), BUFFERS)?;
        poll.add_event(self.transmitter.queue.kick(), FRAMES)?;
        // What the driver has made available before the device was active.
        self.transmitter.queue.look_again();
        Ok(())
    }

    fn handle(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> ControlFlow<()> {
        match self.serve(token, ready, poll) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                self.receiver.queue.needs_reset();
                ControlFlow::Break(())
            }
        }
    }
}
