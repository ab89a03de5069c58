//! What every virtio device is to its transport, and the transport to it.

use std::io;
use std::sync::Arc;

use super::ActiveQueue;
use crate::memory::GuestRam;

/// Signals the driver.
pub trait Interrupt: Send + Sync {
    /// The device has used buffers of queue `index`.
    fn queue(&self, index: u16);

    /// The device's configuration has changed (virtio 1.2, section 2.3).
    fn config(&self);

    /// The driver has done what no driver may; the device stays still until it is reset
    /// (`DEVICE_NEEDS_RESET`, virtio 1.2, section 2.1.2).
    fn needs_reset(&self);
}

/// What a device gets when its driver is ready.
pub struct Activation {
    /// The guest's memory.
    pub ram: Arc<GuestRam>,
    /// The features that driver and device agree on.
    pub features: u64,
    /// The queues that the driver has enabled, in ascending order of their index.
    pub queues: Vec<ActiveQueue>,
    /// How to signal.
    pub interrupt: Arc<dyn Interrupt>,
}

/// A virtio device, without its transport.
///
/// ```text
///   created ──activate──► active ──reset──► created …      (dropping one that is active resets it)
/// ```
pub trait VirtioDevice: Send {
    /// Its type number (virtio 1.2, section 5).
    fn kind(&self) -> u32;

    /// The largest size of each of its queues; powers of two.
    fn queues(&self) -> &[u16];

    /// The features it offers, those of its own type and `VIRTIO_F_EVENT_IDX`, `VIRTIO_F_INDIRECT_DESC`.
    /// The transport adds `VIRTIO_F_VERSION_1`.
    fn features(&self) -> u64;

    /// Reads its configuration space. What lies behind the end is left as it is.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes its configuration space; most devices have nothing to write.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// Begins to serve the queues. Legal when created.
    ///
    /// # Errors
    /// Where a thread or descriptor cannot be had. The transport then tells the driver that a reset is needed.
    fn activate(&mut self, activation: Activation) -> io::Result<()>;

    /// Stops serving. When it returns, nothing of the device touches guest memory or signals any more, and it can be
    /// activated again. Legal always.
    fn reset(&mut self);
}
