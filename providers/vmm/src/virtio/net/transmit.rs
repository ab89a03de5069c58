//! From the guest to the wire.

use std::io::ErrorKind;
use std::sync::Arc;

use super::header;
use super::wire::{Wire, WireKind};
use crate::virtio::buffers::Split;
use crate::virtio::{ActiveQueue, DeviceError};

/// Why sending has stopped for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The guest has sent all it had.
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

    /// Sends what there is.
    pub(super) fn run(&mut self) -> Result<Stopped, DeviceError> {
        self.queue.silence()?;
        let stopped = loop {
            match self.send_all()? {
                Stopped::NoFrames if self.queue.listen()? => self.queue.silence()?,
                stopped => break stopped,
            }
        };
        self.queue.signal()?;
        Ok(stopped)
    }

    fn send_all(&mut self) -> Result<Stopped, DeviceError> {
        while let Some(chain) = self.queue.pop()? {
            let Split { head, mut readable, writable } = Split::new(chain, self.queue.ram())?;
            if !writable.is_empty() || readable.len() < header::LENGTH || readable.len() > header::LARGEST {
                return Err(DeviceError::Request);
            }
            if self.wire.kind() == WireKind::Frames {
                readable.skip(header::LENGTH);
            }
            loop {
                match readable.write_to(&*self.wire) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.queue.unpop();
                        return Ok(Stopped::Full);
                    }
                    // A frame the other end does not take is a lost frame.
                    _ => break,
                }
            }
            self.queue.push(head, 0)?;
        }
        Ok(Stopped::NoFrames)
    }
}
