//! The KVM provider: virtual machines that boot a distribution's own disk image.
//!
//! ```text
//!   provider ── asks ──► supervise ── assemble ──► posada_vmm (the monitor, in the supervisor's own process)
//!                            │            ├─ bottom, top   the box's disk, and what is the machine's own
//!                            │            ├─ boot, kernel, cmdline   what is booted
//!                            │            ├─ folders, changes   synced folders, and what the host changes in them
//!                            │            └─ seed, instance   what the machine is told at its boots, and whether it holds
//!                            └── guest    stop, suspend, dial
//! ```
//! The monitor knows x86_64. Elsewhere the backend is there and says that it cannot be used.

#[cfg(target_arch = "x86_64")]
mod assemble;
#[cfg(target_arch = "x86_64")]
mod boot;
mod bottom;
#[cfg(target_arch = "x86_64")]
mod cable;
#[cfg(target_arch = "x86_64")]
mod changes;
#[cfg(target_arch = "x86_64")]
mod cmdline;
mod console_watch;
mod facts;
mod failure;
#[cfg(target_arch = "x86_64")]
mod folders;
#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod instance;
#[cfg(target_arch = "x86_64")]
mod jail;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod provider;
#[cfg(target_arch = "x86_64")]
pub mod seed;
#[cfg(target_arch = "x86_64")]
pub mod supervise;
#[cfg(not(target_arch = "x86_64"))]
#[path = "supervise_nowhere.rs"]
pub mod supervise;
mod top;

pub use facts::{Device, Facts};
pub use kernel::unpack_kernel;
pub use provider::KvmProvider;
