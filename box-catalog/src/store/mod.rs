//! The store: each box once, by the SHA-256 of the archive it came in.
//!
//! ```text
//! lock                   held (flock) while names or directories change; never for long
//! trees/<digest>/        one box: appears and goes as a whole, by rename
//!     box.json           its names, versions and what is known of it
//!     rootfs/            its root file system, never changed again
//! incoming/<id>/         a box being unpacked; locked (flock, shared) by those who do it
//! trash/<id>/            what is being deleted
//! ```
//! All of it is closed to other users (mode 0700), as trees hold setuid programs with their owners' plain ids
//! when the store is root's. Directories in `incoming` and `trash` that nobody holds are what a crash left; the
//! next call that changes the store removes them.

mod add;
mod fingerprint;
mod incoming;
mod layout;
mod record;
mod remove;
mod resolve;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

pub use add::NewBox;
pub(crate) use incoming::Scratch;
pub use remove::{Removed, Which};

use crate::{BoxError, BoxMetadata, Digest, Version};
use layout::Layout;
use record::Record;

/// The store of one user.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
    /// Our own binary.
    exe: PathBuf,
}

/// A box in the store, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredBox {
    /// Its name: `debian/12`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// SHA-256 of the archive it came in.
    pub digest: Digest,
    /// What is known of it.
    pub metadata: BoxMetadata,
    /// Bytes in all its files.
    pub size: u64,
    /// When it came into the store; shown as seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub added: SystemTime,
    #[serde(skip)]
    tree: PathBuf,
}

impl StoredBox {
    /// The unpacked root file system. It must not be written to. Its owners are plain ids where the store is
    /// root's, else the subordinate ids of the store's user.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.tree.clone()
    }
}

impl Store {
    /// Opens the store at `root`, making it where there is none. `exe` is our own binary, which becomes
    /// [`crate::worker_entry`] when its first argument is [`crate::WORKER`].
    ///
    /// # Errors
    /// [`BoxError::Io`], [`BoxError::DiskFull`].
    pub fn open(root: PathBuf, exe: PathBuf) -> Result<Self, BoxError> {
        // Programs of ours work in other directories.
        let whole =
            |path: PathBuf| std::path::absolute(&path).map_err(|error| BoxError::io("find", path, error));
        Ok(Self { layout: Layout::open(whole(root)?)?, exe: whole(exe)? })
    }

    /// All boxes, each under each of its names: by name, then newest first.
    ///
    /// # Errors
    /// [`BoxError::Damaged`], [`BoxError::Io`].
    pub fn list(&self) -> Result<Vec<StoredBox>, BoxError> {
        let mut boxes: Vec<StoredBox> =
            self.records()?.iter().flat_map(|record| record.boxes(&self.layout)).collect();
        boxes.sort_by(|a, b| {
            a.name.cmp(&b.name).then_with(|| b.version.cmp(&a.version)).then_with(|| b.added.cmp(&a.added))
        });
        // A crash in the middle of a replacement leaves two of one version; the newer one counts.
        boxes.dedup_by(|later, earlier| later.name == earlier.name && later.version == earlier.version);
        Ok(boxes)
    }

    /// The box with this content, under its newest name; also where that name was given to other content since,
    /// as machines made from it go on with it.
    ///
    /// # Errors
    /// [`BoxError::Damaged`], [`BoxError::Io`].
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<StoredBox>, BoxError> {
        let record = Record::read(&self.layout.home(digest))?;
        Ok(record.and_then(|record| {
            let newest = record.names.iter().max_by_key(|name| (!name.replaced, name.added))?;
            Some(record.under(newest, &self.layout))
        }))
    }

    /// Where the store is.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.layout.root()
    }
}

fn as_seconds<S: serde::Serializer>(time: &SystemTime, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(record::seconds(*time))
}
