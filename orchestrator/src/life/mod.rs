//! A machine's life: up, halt, reload, destroy and what lies between.
//!
//! ```text
//!   up:  find or make the record ─► lock ─► describe ─► create ─► start ─► SSH ─► provision ─► health
//!              │                                                              │
//!              └── each of them may be the last thing this process ever does ─┘
//! ```
//! Whatever the last thing was, the next `up` finds the record, asks the provider for the truth, and goes on.

mod addresses;
mod adopt;
mod destroy;
mod health;
mod locking;
mod package;
mod provision;
mod schedule;
mod stop;
mod up;

pub use package::{PackageOptions, Packaged};
pub use provision::Provisioning;
pub use stop::HaltOptions;
pub use up::UpOptions;
