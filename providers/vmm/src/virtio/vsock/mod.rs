//! Sockets between host and guest without a network (virtio 1.2, section 5.10): streams only.
//!
//! On the host's side all connections are Unix sockets, which takes no privilege and no module of the kernel:
//!
//! - Into the guest: a client connects to `PATH`, sends `CONNECT PORT\n`, and is answered `OK HOSTPORT\n` when the
//!   guest has accepted; where it refuses, the connection ends. From there on the bytes are the guest's.
//! - Out of the guest: a connection to port `PORT` of context 2 (the host) is one to the Unix socket `PATH_PORT`;
//!   where nobody listens there, it is refused.
//!
//! | Queue | What goes there |
//! |---|---|
//! | 0 | packets to the guest |
//! | 1 | packets from the guest |
//! | 2 | events; there are none, as machines do not move |

mod backlog;
mod connection;
mod greeting;
mod header;
mod host;
mod table;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::{Activation, VirtioDevice};
use crate::worker::{ThreadKind, Worker};
use host::Listener;

/// Descriptors of each queue.
const QUEUE: u16 = 256;

/// The queue of packets to the guest (section 5.10.2).
const RECEIVE: u16 = 0;
/// The queue of packets from the guest.
const TRANSMIT: u16 = 1;

/// Streams are supported (section 5.10.3).
const F_STREAM: u32 = 0;

/// The smallest context id a guest can have; those below mean others (section 5.10.4).
const FIRST_CID: u64 = 3;

/// Why there can be no such device.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The context id means something else.
    #[error("{0} is no context id of a guest: these are 3 to 4294967294")]
    Cid(u64),
    /// Nobody can connect to it.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// The guest's sockets to the host.
pub struct Vsock {
    cid: u64,
    listener: Arc<Listener>,
    worker: Option<Worker>,
}

impl Vsock {
    /// Sockets of the guest `cid`, listening on `path`. A socket that an earlier process has left there is replaced,
    /// one on which somebody listens is not. It is removed with the device.
    ///
    /// # Errors
    /// [`VsockError`].
    pub fn new(cid: u64, path: impl Into<PathBuf>) -> Result<Self, VsockError> {
        if !(FIRST_CID..u64::from(u32::MAX)).contains(&cid) {
            return Err(VsockError::Cid(cid));
        }
        let path = path.into();
        let listener = Listener::bind(path.clone()).map_err(|source| VsockError::Listen { path, source })?;
        Ok(Self { cid, listener: Arc::new(listener), worker: None })
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE; 3]
    }

    fn features(&self) -> u64 {
        1 << F_STREAM | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        let space = self.cid.to_le_bytes();
        for (place, byte) in data.iter_mut().zip(space.get(offset..).unwrap_or_default()) {
            *place = *byte;
        }
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let Some(worker) = worker::VsockWorker::new(self.cid, self.listener.clone(), activation) else {
            return Err(io::Error::other("the driver has not enabled the queues of packets"));
        };
        self.worker = Some(Worker::start(ThreadKind::Stream, "vsock", worker)?);
        Ok(())
    }

    /// Ends all connections. Clients that come meanwhile wait for the next driver.
    fn reset(&mut self) {
        self.worker = None;
    }
}
