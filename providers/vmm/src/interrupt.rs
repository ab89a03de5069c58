//! Message-signalled interrupts, as PCI devices know them and a hypervisor delivers them.

use std::io;
use std::sync::Arc;

/// What a device writes to signal an interrupt (PCI Local Bus 3.0, section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MsiMessage {
    /// Where it is written.
    pub address: u64,
    /// What is written there.
    pub data: u32,
}

/// One interrupt vector of a device: a line into the hypervisor whose message the guest sets.
pub trait Vector: Send + Sync {
    /// Sets what a trigger delivers from now on; `None` delivers nothing (masked, or not set up).
    ///
    /// # Errors
    /// What the hypervisor says.
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()>;

    /// Delivers the interrupt. Never blocks. Losing it is impossible while the vector is routed.
    fn trigger(&self);
}

/// Gives out vectors.
pub trait VectorSource: Send + Sync {
    /// A new vector, routed to nothing.
    ///
    /// # Errors
    /// Where the hypervisor has none left.
    fn vector(&self) -> io::Result<Arc<dyn Vector>>;
}
