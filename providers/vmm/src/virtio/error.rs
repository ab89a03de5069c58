//! Why a device asks its driver for a reset.

use std::io;

use super::QueueError;
use super::buffers::ChainError;

/// What a device cannot go on after.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The driver's rings make no sense.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A chain makes no sense.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A request has a form that no request of this device has.
    #[error("the driver's request has no form of this device's")]
    Request,
    /// The host refuses what the device lives by.
    #[error(transparent)]
    Host(#[from] io::Error),
}
