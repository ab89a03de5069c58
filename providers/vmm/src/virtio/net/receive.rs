//! From the wire to the guest.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF};

use super::header;
use super::wire::{Wire, WireKind};
use crate::virtio::buffers::{Buffers, Split};
use crate::virtio::{ActiveQueue, DeviceError};

/// Why receiving has stopped for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// There are no frames.
    NoFrames,
    /// The guest has given no buffers for another frame.
    NoBuffers,
    /// The wire is cut.
    Cut,
}

pub(super) struct Receiver {
    pub(super) queue: ActiveQueue,
    wire: Arc<Wire>,
    /// Whether a frame may be spread over several chains.
    mergeable: bool,
    /// Written before each frame where the wire has none.
    header: [u8; header::LENGTH],
    /// Chains taken from the queue, not used yet.
    chains: VecDeque<(u16, usize)>,
    /// The buffers of all of `chains`, in order.
    buffers: Buffers,
}

impl Receiver {
    pub(super) fn new(queue: ActiveQueue, wire: Arc<Wire>, features: u64) -> Self {
        let has = |bit: u32| features >> bit & 1 == 1;
        let buffers = Buffers::new(queue.ram().clone());
        Self {
            queue,
            wire,
            mergeable: has(VIRTIO_NET_F_MRG_RXBUF),
            header: header::whole(has(VIRTIO_NET_F_GUEST_CSUM)),
            chains: VecDeque::new(),
            buffers,
        }
    }

    /// Passes on what there is.
    pub(super) fn run(&mut self) -> Result<Stopped, DeviceError> {
        let stopped = loop {
            if !self.has_room()? {
                // The driver kicks when it has added some; what it added meanwhile is looked at now.
                if self.queue.listen()? {
                    continue;
                }
                break Stopped::NoBuffers;
            }
            match self.receive()? {
                None => {}
                Some(stopped) => break stopped,
            }
        };
        self.queue.signal()?;
        Ok(stopped)
    }

    /// Takes chains until the largest frame has room in them; returns whether it has in what there is.
    fn has_room(&mut self) -> Result<bool, DeviceError> {
        let most = if self.mergeable { usize::MAX } else { 1 };
        while self.buffers.len() < header::LARGEST && self.chains.len() < most {
            let Some(chain) = self.queue.pop()? else { break };
            let split = Split::new(chain, self.queue.ram())?;
            if split.writable.is_empty() || !split.readable.is_empty() {
                return Err(DeviceError::Request);
            }
            self.chains.push_back((split.head, split.writable.len()));
            self.buffers.append(&split.writable);
        }
        // One buffer that is too short for a frame truncates it, as the driver asked for.
        Ok(self.buffers.len() >= header::LARGEST || (!self.mergeable && !self.chains.is_empty()))
    }

    fn receive(&mut self) -> Result<Option<Stopped>, DeviceError> {
        let length = match self.wire.kind() {
            WireKind::Tap => self.buffers.read_from(&*self.wire),
            WireKind::Frames => {
                let mut frame = Buffers::new(self.queue.ram().clone());
                frame.append(&self.buffers);
                frame.skip(header::LENGTH);
                frame.read_from(&*self.wire).map(|length| match length {
                    0 => 0,
                    _ => {
                        self.buffers.write_at(0, &self.header);
                        length + header::LENGTH
                    }
                })
            }
        };
        match length {
            Ok(0) => Ok(Some(Stopped::Cut)),
            Ok(length) => self.deliver(length).map(|()| None),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Ok(Some(Stopped::NoFrames)),
                ErrorKind::Interrupted => Ok(None),
                _ => Ok(Some(Stopped::Cut)),
            },
        }
    }

    fn deliver(&mut self, length: usize) -> Result<(), DeviceError> {
        let mut used = 0;
        let mut covered = 0;
        while covered < length && used < self.chains.len() {
            covered += self.chains[used].1;
            used += 1;
        }
        self.buffers.write_at(header::BUFFERS, &(used as u16).to_le_bytes());
        let mut left = length;
        for (head, capacity) in self.chains.drain(..used) {
            let written = left.min(capacity);
            self.queue.push(head, written as u32)?;
            left -= written;
        }
        self.buffers.skip(covered);
        Ok(())
    }
}
