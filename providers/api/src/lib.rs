//! The vocabulary that the rest of Posada and its providers share: what a machine is, what is asked of it,
//! and the [`Provider`] trait that every backend implements.
//!
//! This crate does no work of its own. It reads no environment, prints nothing and starts nothing.

pub mod content;
mod fault;
pub mod folder;
pub mod identity;
pub mod machine_dir;
pub mod network;
pub mod observer;
pub mod provider;
pub mod spec;

pub use content::{Content, OverlayTree};
pub use fault::{Fault, FaultKind};
pub use folder::SyncedFolder;
pub use identity::{MachineId, MachineName};
pub use machine_dir::MachineDir;
pub use network::{BridgedNetwork, Forward, ForwardedPort, Network, PrivateNetwork, Protocol};
pub use observer::{Observer, Silent};
pub use provider::{
    Availability, Console, Features, MachineState, Provider, ProviderError, ProviderKind, SnapshotOp,
    SshEndpoint, StopRequest, Stopped,
};
pub use spec::{BootSource, DiskFormat, GuestAccess, Layer, MachineSpec, Seeding, Setting, Settings};
