//! What a machine's own file system consists of, for who makes a box of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a machine that does not run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Trees that lie over each other, the lowest first.
    Trees(Vec<OverlayTree>),
    /// A qcow2 image, which names what lies below it.
    Disk(PathBuf),
}

/// A tree of an overlay that was mounted with `userxattr`: a character device 0/0 hides what lies below it, and so does a
/// directory whose attribute `user.overlay.opaque` is `y` (Documentation/filesystems/overlayfs.rst).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayTree {
    /// Its root.
    pub path: PathBuf,
    /// What the machine's user 0 is to root of the host's id map.
    pub first_uid: u32,
    /// What the machine's group 0 is.
    pub first_gid: u32,
}
