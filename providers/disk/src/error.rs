//! What can go wrong with a disk image.

use std::io;
use std::path::{Path, PathBuf};

use posada_provider_api::{Fault, FaultKind};

/// What can go wrong with a disk image.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Bytes that are no disk image.
    #[error("`{path}` is no disk image: {what}", path = path.display())]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what it lacks.
        what: String,
    },
    /// A disk image in a format that cannot be read.
    #[error("`{path}` is a {format} image, which cannot be read", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format: `VMDK`.
        format: &'static str,
    },
    /// A disk image that uses a part of its format that cannot be read.
    #[error("`{path}` uses {what}, which cannot be read", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it uses.
        what: String,
    },
    /// It ends before all of it is there.
    #[error("`{path}` ends too early: {what}", path = path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// Bytes that cannot be.
    #[error("`{path}` is damaged: {what}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Larger than anybody means seriously.
    #[error("`{path}` is absurdly large: {what}", path = path.display())]
    Absurd {
        /// The file.
        path: PathBuf,
        /// What is too large, and the limit.
        what: String,
    },
    /// It stands on another file, and that is not allowed here.
    #[error("`{path}` is only the changes to another image, `{backing}`", path = path.display())]
    HasBacking {
        /// The file.
        path: PathBuf,
        /// The file it names.
        backing: String,
    },
    /// The file it stands on is not there.
    #[error("`{path}` stands on `{backing}`, which is not there", path = path.display(), backing = backing.display())]
    BackingMissing {
        /// The file.
        path: PathBuf,
        /// The file it names.
        backing: PathBuf,
    },
    /// The files it stands on lead back to it, or never end.
    #[error("`{path}` stands on a chain of images that never ends", path = path.display())]
    BackingLoop {
        /// The file at which it was noticed.
        path: PathBuf,
    },
    /// It was asked for a size that cannot be.
    #[error("a disk of {wanted} bytes cannot hold the box's disk of {base} bytes")]
    TooSmall {
        /// The size asked for, bytes.
        wanted: u64,
        /// The size of what it stands on, bytes.
        base: u64,
    },
    /// The disk that the image is written to is full.
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

impl DiskError {
    /// What is wrong, without the file's name.
    #[must_use]
    pub fn reason(&self) -> String {
        let whole = self.to_string();
        let path = match self {
            Self::NotADisk { path, .. }
            | Self::Foreign { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Truncated { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Absurd { path, .. }
            | Self::HasBacking { path, .. }
            | Self::BackingMissing { path, .. }
            | Self::BackingLoop { path } => path,
            Self::TooSmall { .. } | Self::Full(_) | Self::Io { .. } => return whole,
        };
        match whole.strip_prefix(&format!("`{}` ", path.display())) {
            Some(rest) => format!("it {rest}"),
            None => whole,
        }
    }

    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path.to_owned()),
            _ => Self::Io { what, path: path.to_owned(), source },
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn truncated(path: &Path, what: impl Into<String>) -> Self {
        Self::Truncated { path: path.to_owned(), what: what.into() }
    }
}

impl Fault for DiskError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { .. } | Self::Full(_) => FaultKind::Environment,
            Self::TooSmall { .. } => FaultKind::Config,
            _ => FaultKind::Box,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Truncated { .. } | Self::Corrupt { .. } | Self::NotADisk { .. } | Self::Absurd { .. } => {
                "fetch or make the image again"
            }
            Self::Foreign { .. } | Self::Unsupported { .. } => {
                "convert it with `qemu-img convert -O qcow2 FILE NEW.qcow2`"
            }
            Self::HasBacking { .. } | Self::BackingLoop { .. } => {
                "make one image of it with `qemu-img convert -O qcow2 FILE NEW.qcow2`"
            }
            Self::BackingMissing { .. } => {
                "put the file back, or make the machine anew with `posada destroy` and `posada up`"
            }
            Self::TooSmall { .. } => "give `disk` a larger size, or leave it out",
            Self::Full(_) => "free some space",
            Self::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
