//! The network device (virtio 1.2, section 5.1): one pair of queues between the guest and a tap or a socket of
//! frames.

mod config;
mod header;
mod receive;
mod transmit;
mod wire;
mod worker;

#[cfg(test)]
mod tap_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;

pub use wire::{Wire, WireKind};

use super::{Activation, VirtioDevice};
use crate::worker::{ThreadKind, Worker};
use config::Config;

/// Descriptors of each queue. A frame of 64 KiB takes up to 44 of them.
const QUEUE: u16 = 256;

/// The queue of what comes in (section 5.1.2).
const RECEIVE: u16 = 0;
/// The queue of what goes out.
const TRANSMIT: u16 = 1;

/// Most frames in one direction before the other has its turn.
const TURN: usize = 64;

/// How many bytes go to and fro, at most, before the driver hears of them.
const UNTOLD: usize = 64 << 10;

/// A network interface of the guest.
pub struct Net {
    wire: Arc<Wire>,
    config: Config,
    mtu: u16,
    worker: Option<Worker>,
}

impl Net {
    /// An interface with this MAC address and MTU (bytes), plugged into `wire`.
    #[must_use]
    pub fn new(wire: Wire, mac: [u8; 6], mtu: u16) -> Self {
        Self { wire: Arc::new(wire), config: Config::new(mac, mtu), mtu, worker: None }
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE, QUEUE]
    }

    fn features(&self) -> u64 {
        config::features(self.wire.kind())
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        self.wire.set_offloads(activation.features)?;
        let largest = config::largest(activation.features, self.mtu);
        let Some(worker) = worker::NetWorker::new(self.wire.clone(), activation, largest) else {
            return Err(io::Error::other("the driver has not enabled both queues"));
        };
        self.worker = Some(Worker::start(ThreadKind::Net, "net", worker)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}
