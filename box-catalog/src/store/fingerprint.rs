//! Knowing a file again without reading it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::BoxError;

/// A file as it was when a box was made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Looks at the file.
    pub fn of(path: &Path) -> Result<Self, BoxError> {
        let failed = |error| BoxError::io("read", path, error);
        let path = std::fs::canonicalize(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => BoxError::FileMissing(path.to_owned()),
            _ => failed(error),
        })?;
        let stat = std::fs::metadata(&path).map_err(failed)?;
        Ok(Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.len(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
            path,
        })
    }

    /// The file's path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}
