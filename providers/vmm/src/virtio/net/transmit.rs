//! From the guest to the wire.

use std::io::ErrorKind;
use std::sync::Arc;

use super::wire::{Wire, WireKind};
use super::{TURN, UNTOLD, header};
use crate::virtio::buffers::{Buffers, Split};
use crate::virtio::{ActiveQueue, DeviceError};

/// Why sending has stopped for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The guest has sent all it had, or its queue will be looked at again.
    NoFrames,
    /// The wire takes no more.
    Full,
}

pub(super) struct Transmitter {
    pub(super) queue: ActiveQueue,
    wire: Arc<Wire>,
}

impl Transmitter {
    pub(super) fn new(queue: ActiveQueue, wire: Arc<Wire>) -> Self {
        Self { queue, wire }
    }

    /// Sends what there is. The driver hears of it as it goes, so that it can offer the next.
    pub(super) fn run(&mut self) -> Result<Stopped, DeviceError> {
        self.queue.silence()?;
        let mut untold = 0;
        for _ in 0..TURN {
            let Some(chain) = self.queue.pop()? else {
                if self.queue.listen()? {
                    self.queue.silence()?;
                    continue;
                }
                self.queue.signal()?;
                return Ok(Stopped::NoFrames);
            };
            let Split { head, mut readable, writable } = Split::new(chain, self.queue.ram())?;
            if !writable.is_empty() || readable.len() < header::LENGTH || readable.len() > header::LARGEST {
                return Err(DeviceError::Request);
            }
            untold += readable.len();
            if self.send(&mut readable) == Some(Stopped::Full) {
                self.queue.unpop();
                self.queue.signal()?;
                return Ok(Stopped::Full);
            }
            self.queue.push(head, 0)?;
            if untold >= UNTOLD {
                self.queue.signal()?;
                untold = 0;
            }
        }
        self.queue.look_again();
        self.queue.signal()?;
        Ok(Stopped::NoFrames)
    }

    /// Sends a frame with its header. One that the other end does not take is a lost frame.
    fn send(&self, frame: &mut Buffers) -> Option<Stopped> {
        if self.wire.kind() == WireKind::Frames {
            frame.skip(header::LENGTH);
        }
        loop {
            let sent = match self.wire.kind() {
                WireKind::Tap => frame.write_to(&*self.wire),
                WireKind::Frames => frame.send_to(&*self.wire),
            };
            match sent {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Stopped::Full),
                _ => return None,
            }
        }
    }
}
