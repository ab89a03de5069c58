//! What KVM or the host refuses.

use std::io;
use std::path::PathBuf;

/// Why there is no virtual machine.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The device cannot be opened.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no KVM that this monitor knows.
    #[error("this KVM lacks {0}")]
    Lacks(&'static str),
    /// The guest's memory cannot be had.
    #[error("the host has no {mib} MiB of memory for the machine: {source}")]
    Memory {
        /// How much was asked for, MiB.
        mib: u64,
        /// Why.
        source: io::Error,
    },
    /// A call failed.
    #[error("KVM: {doing}: {source}")]
    Call {
        /// What it was to do.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl HypervisorError {
    /// For `map_err` on a KVM call.
    pub(crate) fn call(doing: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Call { doing, source: error.into() }
    }
}
