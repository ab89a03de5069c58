//! Why an archive was not taken. Crosses the pipe from the worker to the process that asked.

use std::io;

use serde::{Deserialize, Serialize};

/// Why an archive was not taken as a box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No archive at all.
    #[error("it is no tar archive but {0}")]
    NotAnArchive(String),
    /// An archive without a file in it.
    #[error("it is empty")]
    Empty,
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// Bytes that cannot be.
    #[error("it is damaged: {0}")]
    Corrupt(String),
    /// An entry that would land, or leads, outside of the box.
    #[error("its entry `{0}` leads out of the box")]
    LeadsOut(String),
    /// An entry nobody means seriously.
    #[error("its entry `{entry}` has {what}")]
    Absurd {
        /// The entry's path.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// More than any box holds.
    #[error("it unpacks to more than {0}")]
    TooLarge(String),
    /// An archive, but of something that cannot run as a machine.
    #[error("it holds no root file system: {0}")]
    NoRootfs(String),
    /// An image of a container that runs a single program.
    #[error("it is an image for a single program, without the init that a machine starts: {0}")]
    NoInit(String),
    /// A root file system without a kernel.
    #[error("it has no kernel")]
    NoKernel,
    /// A root file system that would let nobody in as a virtual machine.
    #[error("cloud-init is not installed in it")]
    NoWayIn,
    /// A disk image that cannot be taken.
    #[error("{what}")]
    Disk {
        /// What is wrong with it.
        what: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// A Vagrant box for another provider.
    #[error(
        "it is a Vagrant box for `{0}`, which holds neither a root file system nor a disk that can be read"
    )]
    OtherProvider(String),
    /// What it says of itself does not hold.
    #[error("{0}")]
    Contradiction(String),
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The host refused something.
    #[error("cannot write `{entry}`: {detail}")]
    Host {
        /// The entry's path.
        entry: String,
        /// What the kernel said.
        detail: String,
    },
}

impl Refusal {
    /// Whether what was read just ended, or was nothing from its beginning on.
    pub(crate) fn is_early_end(&self) -> bool {
        matches!(self, Self::Truncated | Self::Empty | Self::NotAnArchive(_))
    }

    /// What went wrong while reading the archive.
    pub(super) fn reading(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Corrupt(error.to_string()),
        }
    }

    /// What went wrong while writing `entry`.
    pub(super) fn writing(entry: &[u8], errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::DiskFull,
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                Self::Absurd { entry: lossy(entry), what: "a parent that is no directory".to_owned() }
            }
            Errno::NAMETOOLONG => Self::Absurd { entry: lossy(entry), what: "too long a name".to_owned() },
            _ => Self::Host { entry: lossy(entry), detail: io::Error::from(errno).to_string() },
        }
    }

    pub(super) fn absurd(entry: &[u8], what: impl Into<String>) -> Self {
        Self::Absurd { entry: lossy(entry), what: what.into() }
    }
}

/// A path for people: what is no UTF-8 or no printable character is replaced, and it is cut to a sane length.
pub(super) fn lossy(path: &[u8]) -> String {
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(path);
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if text.chars().count() <= LONGEST {
        clean.collect()
    } else {
        clean.take(LONGEST).chain("…".chars()).collect()
    }
}
