//! Names of the store's files, and its lock.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::{BoxError, Digest};

/// Name of a box's record in its directory.
pub const RECORD: &str = "box.json";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Layout(PathBuf);

/// Held while names or directories change.
#[derive(Debug)]
pub struct Locked {
    _file: File,
}

impl Layout {
    /// Makes what is missing.
    pub fn open(root: PathBuf) -> Result<Self, BoxError> {
        let layout = Self(root);
        for directory in [layout.0.clone(), layout.trees(), layout.incoming(), layout.trash()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| BoxError::io("make", directory, error))?;
        }
        Ok(layout)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn trees(&self) -> PathBuf {
        self.0.join("trees")
    }

    pub fn incoming(&self) -> PathBuf {
        self.0.join("incoming")
    }

    pub fn trash(&self) -> PathBuf {
        self.0.join("trash")
    }

    pub fn chunks(&self) -> PathBuf {
        self.0.join("chunks")
    }

    /// The directory of one box.
    pub fn home(&self, digest: &Digest) -> PathBuf {
        self.trees().join(digest.to_string())
    }

    /// Waits for the store's lock, which dies with its holder.
    pub fn lock(&self) -> Result<Locked, BoxError> {
        let path = self.0.join("lock");
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|error| BoxError::io("open", &path, error))?;
        file.lock().map_err(|error| BoxError::io("lock", path, error))?;
        Ok(Locked { _file: file })
    }
}
