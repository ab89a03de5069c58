//! Virtio over PCI, modern only (virtio 1.2, section 4.1): what a driver sees of a [`VirtioDevice`](super::VirtioDevice).
//!
//! ```text
//!   configuration space ─┐             ┌─ common ──► DeviceState: status, features ─activate─► device
//!   BAR 0 ───────────────┴► VirtioPci ─┼─ notify ──► Kicks ───────────── eventfd ───────────────► device's worker
//!                                      ├─ ISR, MSI-X ◄── Signals ◄─────── Interrupt ─────────────  device's worker
//!                                      └─ device ──► device's configuration space
//! ```
//! Kicks reach a worker without passing here once the device is active, by way of [`IoEvents`].

mod common;
mod function;
mod identity;
mod layout;
mod notify;
mod queue_setup;
mod signals;
mod state;
#[cfg(test)]
mod tests;

use std::io;

use vmm_sys_util::eventfd::EventFd;

pub use function::VirtioPci;

/// Makes guest writes to an address write to an event descriptor, without a vCPU leaving the hypervisor.
pub trait IoEvents: Send + Sync {
    /// From now on a write of any value and length to `address` writes to `event`, and reaches no bus.
    ///
    /// # Errors
    /// What the hypervisor says. The transport then does the same itself.
    fn add(&self, address: u64, event: &EventFd) -> io::Result<()>;

    /// Undoes [`add`](Self::add).
    ///
    /// # Errors
    /// What the hypervisor says.
    fn remove(&self, address: u64, event: &EventFd) -> io::Result<()>;
}
