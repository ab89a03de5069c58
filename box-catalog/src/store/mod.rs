//! The store: each box once, by the SHA-256 of the file it came in.
//!
//! ```text
//! lock                   held (flock) while names or directories change; never for long
//! trees/<digest>/        one box: appears and goes as a whole, by rename
//!     box.json           its names, versions and what is known of it
//!     rootfs/            its root file system, never changed again
//!     disk.raw|.qcow2    its disk image, never changed again; a box holds either or both
//!     disk.chunks        the chunks that disk.raw is made from, where it was divided; disk.raw may then be absent
//!     boot/              kernel and initrd out of the disk, as its own boot loader would choose them; the kernel unpacked
//!     deriving           held (flock) by who makes the other form of it, which is a box of its own
//! chunks/                pieces of disk images, each once for all boxes; see posada-chunks
//! incoming/<id>/         a box being unpacked; locked (flock, shared) by those who do it
//! trash/<id>/            what is being deleted
//! ```
//! All of it is closed to other users (mode 0700), as trees hold setuid programs with their owners' plain ids
//! when the store is root's. Directories in `incoming` and `trash` that nobody holds are what a crash left; the
//! next call that changes the store removes them.

mod add;
mod chunked;
mod derive;
mod fingerprint;
mod fsck;
mod gc;
mod incoming;
mod layout;
mod lease;
mod record;
mod remove;
mod resolve;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use posada_provider_api::{BootSource, DiskFormat, Layer, Seeding};
use serde::Serialize;

pub use add::NewBox;
pub use fsck::{BoxDamage, BoxFsck};
pub use gc::BoxGc;
pub(crate) use incoming::Scratch;
pub use remove::{Removed, Which};

use crate::disk::{self, DiskRecord};
use crate::unpack::TREE;
use crate::{BoxError, BoxMetadata, Digest, Form, Version};
use layout::Layout;
use record::Record;

/// The store of one user.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
    /// Our own binary.
    exe: PathBuf,
    remotes: std::sync::Arc<crate::Remotes>,
}

/// A box in the store, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredBox {
    /// Its name: `debian/12`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// SHA-256 of the file it came in.
    pub digest: Digest,
    /// What is known of it.
    pub metadata: BoxMetadata,
    /// Bytes in all its files.
    pub size: u64,
    /// When it came into the store; shown as seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub added: SystemTime,
    #[serde(skip)]
    home: PathBuf,
    #[serde(skip)]
    disk: Option<DiskRecord>,
    /// Whether it was made from the other form of the box.
    #[serde(skip)]
    derived: bool,
    #[serde(skip)]
    lease: lease::Lease,
}

impl StoredBox {
    /// The unpacked root file system, where the box holds one. It must not be written to. Its owners are plain ids
    /// where the store is root's, else the subordinate ids of the store's user.
    #[must_use]
    pub fn rootfs(&self) -> Option<PathBuf> {
        self.metadata.provides.contains(&Form::Rootfs).then(|| self.home.join(TREE))
    }

    /// The disk image, where the box holds one.
    #[must_use]
    pub fn disk(&self) -> Option<StoredDisk> {
        let there = self.disk.as_ref()?;
        Some(StoredDisk {
            path: self.home.join(disk::file_name(there.format)),
            format: there.format,
            size: there.size,
            seeding: there.seeding,
        })
    }

    /// What the disk's own boot loader would start, where the box holds a disk and a kernel was found on it.
    #[must_use]
    pub fn boot(&self) -> Option<BootSource> {
        let boot = self.disk.as_ref()?.boot.as_ref()?;
        Some(BootSource {
            kernel: self.home.join(disk::KERNEL),
            initrd: boot.initrd.then(|| self.home.join(disk::INITRD)),
            cmdline: boot.cmdline.clone(),
        })
    }

    /// The form `needed`, as the lowest layer of a machine.
    ///
    /// # Errors
    /// [`BoxError::MissingForm`].
    pub fn layer(&self, needed: Form) -> Result<Layer, BoxError> {
        let layer = match needed {
            Form::Rootfs => self.rootfs().map(|path| Layer::Tree { path }),
            Form::Disk => self.disk().map(|disk| Layer::Disk {
                path: disk.path,
                format: disk.format,
                boot: self.boot(),
                seeding: disk.seeding,
            }),
        };
        layer.ok_or_else(|| resolve::missing_form(&self.name, needed))
    }
}

/// The disk image of a box. It is never written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDisk {
    /// Absolute path.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: DiskFormat,
    /// How large the disk is for a machine, bytes.
    pub size: u64,
    /// How its system takes up who it is to be.
    pub seeding: Seeding,
}

impl Store {
    /// Opens the store at `root`, making it where there is none. `exe` is our own binary, which becomes
    /// [`crate::worker_entry`] when its first argument is [`crate::WORKER`]; what it is given there unpacks kernels.
    ///
    /// # Errors
    /// [`BoxError::Io`], [`BoxError::DiskFull`].
    pub fn open(root: PathBuf, exe: PathBuf) -> Result<Self, BoxError> {
        // Programs of ours work in other directories.
        let whole =
            |path: PathBuf| std::path::absolute(&path).map_err(|error| BoxError::io("find", path, error));
        Ok(Self { layout: Layout::open(whole(root)?)?, exe: whole(exe)?, remotes: std::sync::Arc::default() })
    }

    /// The same store, which fetches what it is asked for and does not have by `remotes`.
    #[must_use]
    pub fn with_remotes(self, remotes: crate::Remotes) -> Self {
        Self { remotes: std::sync::Arc::new(remotes), ..self }
    }

    pub(crate) fn remotes(&self) -> &crate::Remotes {
        &self.remotes
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
        let mut seen = BTreeSet::new();
        boxes.retain(|stored| {
            let key = |form: &Form| (stored.name.clone(), stored.version.to_string(), *form);
            let forms: Vec<_> = stored.metadata.provides.iter().map(key).collect();
            let fresh = forms.iter().any(|form| !seen.contains(form));
            seen.extend(forms);
            fresh
        });
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
