//! The guest's memory as devices see it.

use vm_memory::GuestMemoryMmap;

/// All of the guest's RAM, by guest-physical address. Shared as `Arc<GuestRam>`; it never changes while a machine
/// runs.
pub type GuestRam = GuestMemoryMmap<()>;
