//! What can go wrong with chunks.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Digest, ManifestError};

/// What can go wrong with chunks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the store, or one that is cut or assembled, cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no room left; the store is as it was.
    #[error("the disk that holds {} is full", .0.display())]
    DiskFull(PathBuf),
    /// The store does not have the chunk.
    #[error("chunk {0} is not in the store")]
    Missing(Digest),
    /// The store's file of the chunk does not hold it any more.
    #[error("chunk {digest} is damaged: {what}")]
    Damaged {
        /// The chunk.
        digest: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// Bytes that were to be a chunk are not.
    #[error("what was to be chunk {wanted} is not: {what}")]
    Mismatch {
        /// What it was to be.
        wanted: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// More bytes than a chunk may have.
    #[error("a chunk of {0} bytes is larger than any may be")]
    TooLarge(usize),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Whoever wanted it does not any more.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Io { what, path, source },
        }
    }
}
