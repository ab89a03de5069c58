//! Why a machine cannot be built or started.

use std::io;
use std::path::PathBuf;

use crate::arch::BootError;
use crate::hypervisor::HypervisorError;

/// What is wrong with a machine's configuration, or with the host for it.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A value is out of bounds.
    #[error("{0}")]
    Config(String),
    /// KVM or the host's memory.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The kernel, its initial RAM disk, or its command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk image.
    #[error("the disk {path} cannot be used: {source}")]
    Disk {
        /// Its image.
        path: PathBuf,
        /// Why.
        source: crate::block::BlockError,
    },
    /// Another device.
    #[error("the {device} cannot be set up: {source}")]
    Device {
        /// Which one.
        device: String,
        /// Why.
        source: io::Error,
    },
}

impl VmError {
    /// For `map_err` on what a device cannot have.
    pub(crate) fn device(device: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let device = device.into();
        move |source| Self::Device { device, source }
    }
}
