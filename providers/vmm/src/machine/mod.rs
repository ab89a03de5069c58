//! A machine: put together from its parts, started, paused, stopped.
//!
//! ```text
//!   Vm::build ──► Vm ──start──► running ◄──pause / resume──► paused
//!                                  └──► exited (powered off, reset, panicked, killed, failed)
//! ```

mod exit;

pub use exit::Exit;
