//! What goes wrong in keeper and container, in a form that crosses process boundaries.

use std::fmt::Display;
use std::io;

use posada_provider_api::{Fault, ProviderError};
use serde::{Deserialize, Serialize};

/// An error of keeper or container; becomes a [`ProviderError`] in the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The host lacks or refuses something.
    #[error("{what}")]
    Host {
        /// What happened.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// The box cannot run.
    #[error("{what}")]
    Box {
        /// What is wrong with it.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// The machine died.
    #[error("{what}")]
    Machine {
        /// How.
        what: String,
    },
    /// What nobody foresaw.
    #[error("{what}")]
    Internal {
        /// What was being done, and what came of it.
        what: String,
    },
}

impl Failure {
    /// The host lacks or refuses something.
    pub fn host(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Host { what: what.into(), remedy: remedy.into() }
    }

    /// The box cannot run.
    pub fn of_box(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Box { what: what.into(), remedy: remedy.into() }
    }

    /// A layer is a disk.
    pub fn no_tree() -> Self {
        Self::of_box(
            "it is a disk image, and containers need a root file system",
            "use `provider: kvm`, or a box that holds a root file system",
        )
    }

    /// The machine died.
    pub fn machine(what: impl Into<String>) -> Self {
        Self::Machine { what: what.into() }
    }

    /// What nobody foresaw.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::Internal { what: what.into() }
    }

    /// From an error of another crate of ours, which knows its own remedy.
    pub fn of(error: &dyn Fault) -> Self {
        let mut what = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            what = format!("{what}: {inner}");
            source = inner.source();
        }
        match error.hint() {
            Some(remedy) => Self::Host { what, remedy },
            None => Self::Internal { what },
        }
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Host { what, remedy } => Self::Host { what, remedy },
            Failure::Box { what, remedy } => Self::Box { what, remedy },
            Failure::Machine { what } => Self::Machine { what, console: Vec::new() },
            Failure::Internal { what } => Self::Internal { what },
        }
    }
}

/// Says what was being done when a system call failed.
pub trait During<T> {
    /// `doing` is an infinitive phrase that names its object: `mount /proc`.
    ///
    /// # Errors
    /// What went wrong, as a [`Failure`].
    fn during(self, doing: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, doing: impl Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            let what = format!("cannot {doing}: {error}");
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Failure::host(what, "free some disk space, then try again")
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    Failure::host(what, "make that file system writable, or keep machines on another one")
                }
                io::ErrorKind::PermissionDenied => {
                    Failure::host(what, "`posada doctor` shows what this host does not permit")
                }
                _ => Failure::internal(what),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_hosts_fault_and_nonsense_is_ours() {
        let full: Result<(), Failure> =
            Err::<(), _>(io::Error::from_raw_os_error(libc::ENOSPC)).during("write x");
        assert!(
            matches!(full.unwrap_err(), Failure::Host { what, .. } if what.starts_with("cannot write x: "))
        );
        let odd: Result<(), Failure> = Err::<(), _>(rustix::io::Errno::INVAL).during("mount /proc");
        assert!(matches!(odd.unwrap_err(), Failure::Internal { .. }));
    }
}
