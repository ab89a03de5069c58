//! The device's thread: both directions in turn.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::receive::{self, Receiver};
use super::transmit::{self, Transmitter};
use super::wire::Wire;
use super::{RECEIVE, TRANSMIT};
use crate::virtio::{Activation, DeviceError};
use crate::worker::{Handler, Poll};

const WIRE: u64 = 0;
const BUFFERS: u64 = 1;
const FRAMES: u64 = 2;

pub(super) struct NetWorker {
    wire: Arc<Wire>,
    receiver: Receiver,
    transmitter: Transmitter,
    /// What the wire is waited for.
    interest: EventFlags,
    cut: bool,
}

impl NetWorker {
    /// `None` where a queue is missing.
    pub(super) fn new(wire: Arc<Wire>, activation: Activation) -> Option<Self> {
        let features = activation.features;
        let mut queues = activation.queues;
        let mut take = |index| Some(queues.remove(queues.iter().position(|queue| queue.index() == index)?));
        let (receive, transmit) = (take(RECEIVE)?, take(TRANSMIT)?);
        Some(Self {
            receiver: Receiver::new(receive, wire.clone(), features),
            transmitter: Transmitter::new(transmit, wire.clone()),
            wire,
            interest: EventFlags::IN,
            cut: false,
        })
    }

    fn receive(&mut self, wanted: &mut EventFlags) -> Result<(), DeviceError> {
        match self.receiver.run()? {
            receive::Stopped::NoFrames => wanted.insert(EventFlags::IN),
            receive::Stopped::NoBuffers => wanted.remove(EventFlags::IN),
            receive::Stopped::Cut => self.cut = true,
        }
        Ok(())
    }

    fn transmit(&mut self, wanted: &mut EventFlags) -> Result<(), DeviceError> {
        match self.transmitter.run()? {
            transmit::Stopped::NoFrames => wanted.remove(EventFlags::OUT),
            transmit::Stopped::Full => wanted.insert(EventFlags::OUT),
        }
        Ok(())
    }

    fn serve(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> Result<(), DeviceError> {
        let mut wanted = self.interest;
        match token {
            BUFFERS => {
                self.receiver.queue.kicked();
                self.receive(&mut wanted)?;
            }
            FRAMES => {
                self.transmitter.queue.kicked();
                self.transmit(&mut wanted)?;
            }
            _ => {
                if ready.contains(EventFlags::OUT) {
                    self.transmit(&mut wanted)?;
                }
                if !(ready - EventFlags::OUT).is_empty() {
                    self.receive(&mut wanted)?;
                }
            }
        }
        if self.cut {
            // The other end is gone for good. The guest's frames go nowhere from here on.
            poll.remove(self.wire.as_fd())?;
            self.interest = EventFlags::empty();
        } else if wanted != self.interest {
            poll.modify(self.wire.as_fd(), WIRE, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}

impl Handler for NetWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        poll.add(self.wire.as_fd(), WIRE, self.interest)?;
        poll.add_event(self.receiver.queue.kick(), BUFFERS)?;
        poll.add_event(self.transmitter.queue.kick(), FRAMES)
    }

    fn handle(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> ControlFlow<()> {
        if self.cut && token == WIRE {
            return ControlFlow::Continue(());
        }
        match self.serve(token, ready, poll) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                self.receiver.queue.needs_reset();
                ControlFlow::Break(())
            }
        }
    }
}
