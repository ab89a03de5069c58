//! The KVM provider: virtual machines that boot a distribution's own disk image.
//!
//! ```text
//!   provider ── asks ──► supervise ── assemble ──► posada_vmm (the monitor, in the supervisor's own process)
//!                            │            ├─ bottom, top   the box's disk, and what is the machine's own
//!                            │            ├─ boot, cmdline what is booted
//!                            │            ├─ folders, changes   synced folders, and what the host changes in them
//!                            │            └─ seed          what the machine is told at its boots
//!                            └── guest    stop, suspend, dial
//! ```

mod assemble;
mod boot;
mod bottom;
mod cable;
mod changes;
mod cmdline;
mod facts;
mod failure;
mod folders;
mod guest;
mod jail;
mod memory;
mod panic;
mod provider;
pub mod seed;
pub mod supervise;
mod top;

pub use facts::{Device, Facts};
pub use provider::KvmProvider;
