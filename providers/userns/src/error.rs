//! What can be wrong with a host's id map.

use std::fmt;
use std::io;
use std::path::PathBuf;

use posada_provider_api::{Fault, FaultKind};

/// Users or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// User ids.
    Users,
    /// Group ids.
    Groups,
}

impl Side {
    /// The file that grants subordinate ids of this side, below `/etc`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Users => "subuid",
            Self::Groups => "subgid",
        }
    }

    /// The program that writes maps of this side.
    #[must_use]
    pub fn tool(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }

    fn usermod_option(self) -> &'static str {
        match self {
            Self::Users => "--add-subuids",
            Self::Groups => "--add-subgids",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Users => "user",
            Self::Groups => "group",
        })
    }
}

/// Why this host gives the caller no id map.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    /// The caller has too few subordinate ids, or none.
    #[error("{user} has {have} subordinate {side} ids in {file}, machines need {need}", file = file.display())]
    TooFew {
        /// Who.
        user: String,
        /// Of which side.
        side: Side,
        /// Where they are granted.
        file: PathBuf,
        /// How many there are.
        have: u64,
        /// How many it takes.
        need: u32,
    },
    /// The program that writes id maps is not installed.
    #[error("{} is not installed", side.tool())]
    NoTool {
        /// Which one.
        side: Side,
    },
    /// The program that writes id maps has lost its privilege.
    #[error("{} has neither the setuid bit nor file capabilities", path.display())]
    ToolUnprivileged {
        /// Which one.
        path: PathBuf,
    },
    /// Root of this system does not own the ids that machines would get.
    #[error("{side} ids {base} and up are not mapped here, where root is itself in a user namespace")]
    BaseNotMapped {
        /// Of which side.
        side: Side,
        /// The first one.
        base: u32,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a user namespace.
    #[error("the kernel refused a user namespace")]
    Refused(#[source] io::Error),
    /// The map could not be written.
    #[error("the id map could not be written: {0}")]
    NotWritten(String),
}

impl Fault for IdMapError {
    fn kind(&self) -> FaultKind {
        FaultKind::Environment
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::TooFew { user, side, .. } => Some(format!(
                "run `sudo usermod {} 100000-165535 {user}` with a range that no other user has",
                side.usermod_option()
            )),
            Self::NoTool { .. } => {
                Some("install Debian's package `uidmap` (`shadow-utils` elsewhere)".to_owned())
            }
            Self::ToolUnprivileged { path } => {
                Some(format!("reinstall the package `uidmap`, or run `sudo chmod u+s {}`", path.display()))
            }
            Self::BaseNotMapped { side, .. } => Some(format!(
                "give root a range of 65536 ids that exist here in /etc/{}, or run posada outside of the container",
                side.file()
            )),
            Self::Unreadable { .. } => None,
            Self::Refused(_) | Self::NotWritten(_) => {
                Some("`posada doctor` shows what keeps user namespaces from working".to_owned())
            }
        }
    }
}
