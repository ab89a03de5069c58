//! From the wire to the guest.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF};

use super::wire::{Wire, WireKind};
use super::{TURN, UNTOLD, header};
use crate::virtio::buffers::Buffers;
use crate::virtio::{ActiveQueue, DeviceError};

/// Why receiving has stopped for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// There are no frames.
    NoFrames,
    /// There may be more, but others have their turn.
    Turn,
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
    /// The largest frame with its header, bytes.
    largest: usize,
    /// Written before each frame where the wire has none.
    header: [u8; header::LENGTH],
    /// Chains taken from the queue, not used yet.
    chains: VecDeque<(u16, usize)>,
    /// The buffers of all of `chains`, in order.
    buffers: Buffers,
    /// Where the frame behind the header goes; kept for its allocation.
    frame: Buffers,
}

impl Receiver {
    pub(super) fn new(queue: ActiveQueue, wire: Arc<Wire>, features: u64, largest: usize) -> Self {
        let has = |bit: u32| features >> bit & 1 == 1;
        let none = Buffers::new(queue.ram().clone());
        Self {
            queue,
            wire,
            mergeable: has(VIRTIO_NET_F_MRG_RXBUF),
            largest,
            header: header::whole(has(VIRTIO_NET_F_GUEST_CSUM)),
            chains: VecDeque::new(),
            buffers: none.clone(),
            frame: none,
        }
    }

    /// Passes on what there is. The driver hears of it as it comes, to work on one part while the next is copied.
    pub(super) fn run(&mut self) -> Result<Stopped, DeviceError> {
        let mut untold = 0;
        for _ in 0..TURN {
            if !self.has_room()? {
                // The driver kicks when it has added some; what it added meanwhile is looked at now.
                if self.queue.listen()? {
                    continue;
                }
                self.queue.signal()?;
                return Ok(Stopped::NoBuffers);
            }
            match self.receive()? {
                Ok(length) => untold += length,
                Err(stopped) => {
                    self.queue.signal()?;
                    return Ok(stopped);
                }
            }
            if untold >= UNTOLD {
                self.queue.signal()?;
                untold = 0;
            }
        }
        self.queue.signal()?;
        Ok(Stopped::Turn)
    }

    /// Takes chains until the largest frame has room in them; returns whether it has in what there is.
    fn has_room(&mut self) -> Result<bool, DeviceError> {
        let most = if self.mergeable { usize::MAX } else { 1 };
        while self.buffers.len() < self.largest && self.chains.len() < most {
            let Some(chain) = self.queue.pop()? else { break };
            let (head, before) = (chain.head_index(), self.buffers.len());
            for descriptor in chain {
                if !descriptor.is_write_only() {
                    return Err(DeviceError::Request);
                }
                self.buffers.add(descriptor.addr(), descriptor.len() as usize)?;
            }
            if self.buffers.len() == before {
                return Err(DeviceError::Request);
            }
            self.chains.push_back((head, self.buffers.len() - before));
        }
        // One buffer that is too short for a frame truncates it, as the driver asked for.
        Ok(self.buffers.len() >= self.largest || (!self.mergeable && !self.chains.is_empty()))
    }

    /// Passes on one frame; returns its length.
    fn receive(&mut self) -> Result<Result<usize, Stopped>, DeviceError> {
        let length = match self.wire.kind() {
            WireKind::Tap => self.buffers.read_from(&*self.wire),
            WireKind::Frames => {
                self.frame.clear();
                self.frame.append(&self.buffers);
                self.frame.skip(header::LENGTH);
                self.frame.read_from(&*self.wire).map(|length| match length {
                    0 => 0,
                    _ => {
                        self.buffers.write_at(0, &self.header);
                        length + header::LENGTH
                    }
                })
            }
        };
        match length {
            Ok(0) => Ok(Err(Stopped::Cut)),
            Ok(length) => self.deliver(length).map(|()| Ok(length)),
            Err(error) => Ok(match error.kind() {
                ErrorKind::WouldBlock => Err(Stopped::NoFrames),
                ErrorKind::Interrupted => Ok(0),
                _ => Err(Stopped::Cut),
            }),
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
