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

/// What the host refuses on what is the machine's own: its files, its cables.
pub(crate) fn io(doing: &str, error: &io::Error) -> ProviderError {
    let what = format!("{doing}: {error}");
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::PermissionDenied => "see to it that POSADA_HOME and all in it is yours",
        _ if is_out_of_files(error) => "raise the limit of open files (`ulimit -Hn`)",
        _ => return ProviderError::Internal { what },
    };
    ProviderError::Host { what, remedy: remedy.to_owned() }
}

/// Whether the process or the host has no descriptor left.
fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_is_told_as_that() {
        use rustix::io::Errno;
        for (error, remedy) in
            [(Errno::NFILE, "ulimit"), (Errno::NOSPC, "space"), (Errno::ACCESS, "POSADA_HOME")]
        {
            let ProviderError::Host { remedy: told, .. } = io("make a cable", &error.into()) else {
                panic!("{error}")
            };
            assert!(told.contains(remedy), "{told}");
        }
        assert!(matches!(io("make a cable", &Errno::INVAL.into()), ProviderError::Internal { .. }));
    }
}
