//! Virtio devices (virtio 1.2), each in a folder of its own, apart from the transport that shows them to the guest.
//!
//! A device is told by its driver's wishes through [`VirtioDevice`] and works in a thread of its own from
//! [`activate`](VirtioDevice::activate) until [`reset`](VirtioDevice::reset). It sees neither registers nor PCI.

pub mod balloon;
pub mod blk;
pub mod buffers;
mod config_signal;
pub mod console;
pub mod device;
mod error;
pub mod fs;
pub mod net;
pub mod queue;
pub mod rng;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;
pub mod vsock;

pub use device::{Activation, Interrupt, VirtioDevice};
pub use error::DeviceError;
pub use queue::{ActiveQueue, QueueError};
