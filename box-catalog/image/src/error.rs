//! What can go wrong with an image.

use std::io;
use std::path::{Path, PathBuf};

use posada_provider_api::{Fault, FaultKind};

use crate::Format;

/// What can go wrong with an image. Messages speak of the image as `it`: whoever opened it knows its name.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Bytes of no format that is known.
    #[error("it is no disk image: {0}")]
    Unknown(String),
    /// It ends before all of it is there.
    #[error("it ends too early: {0}")]
    Truncated(String),
    /// Bytes that cannot be.
    #[error("it is damaged: {0}")]
    Corrupt(String),
    /// It uses a part of its format that is not read, or a size that nobody means seriously.
    #[error("it uses {0}, which cannot be read")]
    Unsupported(String),
    /// It holds only what differs from another image.
    #[error("it is only the changes to another image{0}")]
    Differences(String),
    /// It names a file that is not there, or that it may not name.
    #[error("it names the file `{name}`, {why}")]
    File {
        /// The name as it stands there.
        name: String,
        /// What is wrong with it: `which is not there`.
        why: &'static str,
    },
    /// It holds several disks, and nothing says which one is the system's.
    #[error("it holds several disks: {0}")]
    Ambiguous(String),
    /// More bytes than are allowed.
    #[error("it holds more than {0} bytes")]
    TooLarge(u64),
    /// The format cannot hold this disk.
    #[error("a disk of {size} bytes cannot be written as {format}: {why}")]
    Unfit {
        /// The format.
        format: Format,
        /// Size of the disk, bytes.
        size: u64,
        /// Which limit it has.
        why: &'static str,
    },
    /// Another process writes the same file.
    #[error("another process is writing `{path}`", path = .0.display())]
    Busy(PathBuf),
    /// It was asked to end early.
    #[error("cancelled")]
    Cancelled,
    /// The disk that is written to is full.
    #[error("the disk with `{path}` is full", path = .0.display())]
    Full(PathBuf),
    /// The host refused something.
    #[error("cannot {what} `{path}`", path = path.display())]
    Io {
        /// What was being done: `read`.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ImageError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path.to_owned()),
            _ => Self::Io { what, path: path.to_owned(), source },
        }
    }
}

pub(crate) fn corrupt(what: impl Into<String>) -> ImageError {
    ImageError::Corrupt(what.into())
}

pub(crate) fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::Unsupported(what.into())
}

impl Fault for ImageError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { .. } | Self::Full(_) => FaultKind::Environment,
            Self::Cancelled | Self::Busy(_) | Self::Unfit { .. } => FaultKind::User,
            _ => FaultKind::Box,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Truncated(_) | Self::Corrupt(_) => "fetch or make the image again",
            Self::Unknown(_) => {
                "give a disk image (raw, qcow2, VMDK, VDI, VHD, VHDX, Parallels HDD) or a machine (OVA, XVA)"
            }
            Self::Unsupported(_) => "convert it to qcow2 with the tools of the hypervisor it was made by",
            Self::Differences(_) => {
                "merge the snapshots into one disk with the tools of the hypervisor it was made by"
            }
            Self::File { .. } => "put all files of the disk into one directory or archive",
            Self::Ambiguous(_) => "give the file of one disk",
            Self::TooLarge(_) => "give a smaller image",
            Self::Unfit { .. } => "choose another format, such as qcow2",
            Self::Busy(_) => "wait for it, or choose another file",
            Self::Full(_) => "free some space",
            Self::Cancelled | Self::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
