//! What fails below, as what the rest of Posada is told.

#[cfg(target_arch = "x86_64")]
mod monitor;

use std::io;

use posada_disk::DiskError;
use posada_provider_api::{Fault, FaultKind, ProviderError};

#[cfg(target_arch = "x86_64")]
pub(crate) use monitor::{seed, vm};

/// A fault of a disk image.
pub(crate) fn disk(error: DiskError) -> ProviderError {
    let (what, remedy) = (error.to_string(), error.hint().unwrap_or_default());
    match error.kind() {
        FaultKind::Box => ProviderError::Box { what, remedy },
        _ => ProviderError::Host { what, remedy },
    }
}

/// What the host refuses on the machine's own files.
pub(crate) fn io(doing: &str, error: &io::Error) -> ProviderError {
    let what = format!("{doing}: {error}");
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::PermissionDenied => "see to it that POSADA_HOME and all in it is yours",
        _ => return ProviderError::Internal { what },
    };
    ProviderError::Host { what, remedy: remedy.to_owned() }
}
