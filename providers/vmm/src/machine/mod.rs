//! A machine: put together from its parts, started, paused, stopped.
//!
//! ```text
//!   Vm::build ──► Vm ──start──► running ◄──pause / resume──► paused
//!                                  └──► exited (powered off, reset, panicked, killed, failed)
//! ```
//! Each vCPU has a thread, and each device that works has at least one. Whoever sees the machine's end first decides
//! how it ended ([`Exit`]); then all vCPUs are called out of the guest, and dropping [`Running`] ends the rest.

mod control;
mod error;
mod exit;
mod plug;
mod running;
mod vm;

pub use control::Handle;
pub use error::VmError;
pub use exit::Exit;
pub use running::Running;
pub use vm::{KVM, Vm};
