//! The console (virtio 1.2, section 5.3): a terminal (`hvc0` to Linux), and named ports beside it
//! (`/dev/virtio-ports/NAME`). Each ends in a stream socket of the host. Where the host does not read, the guest
//! waits; nothing is lost.
//!
//! | Queue | What goes there |
//! |---|---|
//! | 0, 1 | the terminal: in, out |
//! | 2, 3 | control messages, where there are named ports: in, out |
//! | 4, 5 and so on | a named port each: in, out |

mod config;
mod control;
mod port;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

pub use config::ConsoleHandle;

use super::{Activation, VirtioDevice};
use crate::config::Port;
use crate::worker::{ThreadKind, Worker};
use config::Shared;
use port::Line;

/// Descriptors of each queue.
const QUEUE: u16 = 64;

/// The terminal's size is told (section 5.3.3).
const F_SIZE: u32 = 0;
/// There are more ports, and control messages.
const F_MULTIPORT: u32 = 1;

/// A console and its ports.
pub struct Console {
    /// The terminal first.
    lines: Vec<Arc<Line>>,
    queues: Vec<u16>,
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

impl Console {
    /// A console whose terminal ends in `terminal`, a stream socket, with further `ports`; and the handle that tells
    /// the terminal's size. Where there is no terminal the guest is told of none, and its queues lead nowhere.
    ///
    /// # Errors
    /// Where a stream cannot be made non-blocking, or no descriptor can be had.
    pub fn new(terminal: Option<OwnedFd>, ports: Vec<Port>) -> io::Result<(Self, ConsoleHandle)> {
        let queues = if ports.is_empty() { 2 } else { 4 + 2 * ports.len() };
        let has_terminal = terminal.is_some();
        let terminal = match terminal {
            Some(terminal) => terminal,
            // As if who was there had hung up.
            None => UnixStream::pair()?.0.into(),
        };
        let mut lines = vec![Arc::new(Line::new(None, terminal)?)];
        for Port { name, stream } in ports {
            lines.push(Arc::new(Line::new(Some(name), stream)?));
        }
        let shared = Arc::new(Shared::new(lines.len() as u32, has_terminal)?);
        let handle = ConsoleHandle::new(shared.clone());
        Ok((Self { lines, queues: vec![QUEUE; queues], shared, worker: None }, handle))
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn features(&self) -> u64 {
        let ports = u64::from(self.lines.len() > 1) << F_MULTIPORT;
        let size = u64::from(self.shared.has_terminal()) << F_SIZE;
        ports | size | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.shared.read(offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let interrupt = activation.interrupt.clone();
        let Some(worker) = worker::ConsoleWorker::new(&self.lines, activation, self.shared.clone()) else {
            return Err(io::Error::other("the driver has not enabled the console's queues"));
        };
        self.worker = Some(Worker::start(ThreadKind::Stream, "console", worker)?);
        self.shared.changed.connect(interrupt);
        Ok(())
    }

    fn reset(&mut self) {
        self.shared.changed.disconnect();
        self.worker = None;
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.reset();
    }
}
