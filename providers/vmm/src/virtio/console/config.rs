//! The configuration space (virtio 1.2, section 5.3.4), and the handle that changes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::virtio::config_signal::ConfigSignal;

/// What device, worker and handle have in common.
pub(super) struct Shared {
    /// Columns in the low half, rows in the high one, as they lie in the configuration space.
    size: AtomicU32,
    ports: u32,
    has_terminal: bool,
    /// Wakes the worker when the size has changed.
    pub(super) resized: EventFd,
    pub(super) changed: ConfigSignal,
}

impl Shared {
    pub(super) fn new(ports: u32, has_terminal: bool) -> io::Result<Self> {
        let resized = EventFd::new(EFD_NONBLOCK)?;
        Ok(Self { size: AtomicU32::new(0), ports, has_terminal, resized, changed: ConfigSignal::default() })
    }

    /// Whether the first port is a terminal that the guest is to know of.
    pub(super) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Columns and rows, 16 bits each; zero where nobody has told them.
    pub(super) fn size(&self) -> u32 {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let mut space = [0; 8];
        space[..4].copy_from_slice(&self.size().to_le_bytes());
        space[4..].copy_from_slice(&self.ports.to_le_bytes());
        let Ok(offset) = usize::try_from(offset) else { return };
        for (place, byte) in data.iter_mut().zip(space.get(offset..).unwrap_or_default()) {
            *place = *byte;
        }
    }
}

/// Tells the guest how large its terminal is, from any thread.
#[derive(Clone)]
pub struct ConsoleHandle(Arc<Shared>);

impl ConsoleHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The terminal, if there is one, has this many columns and rows from now on. Where there are named ports, a Linux older than 6.15
    /// takes one for the other (it read the message of section 5.3.6.2 in the wrong order).
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = u32::from(columns) | u32::from(rows) << 16;
        if !self.0.has_terminal || self.0.size.swap(size, Ordering::Relaxed) == size {
            return;
        }
        // It is set already where it cannot take more.
        let _ = self.0.resized.write(1);
        self.0.changed.signal();
    }
}
