//! What the worker tells: one JSON object a line on its standard output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::unpack::{Refusal, Unpacked};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// This many more bytes of the archive were read.
    Read(u64),
    /// It is done.
    Unpacked(Box<Unpacked>),
    /// It cannot be done.
    Refused(Refusal),
}

/// A disk image that is to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiskOfTree {
    /// The root file system.
    pub tree: PathBuf,
    /// Bytes in its files.
    pub size: u64,
    /// The disk image whose kernel it gets, where it has none.
    pub kernel: Option<PathBuf>,
    /// What stands for it.
    pub digest: Digest,
    /// Who logs in.
    pub user: String,
}

/// Words after [`super::WORKER`] that choose what is done.
pub mod job {
    /// Unpacks standard input into the current directory.
    pub const UNPACK: &str = "unpack";
    /// The same, and makes a disk image of it.
    pub const UNPACK_AS_DISK: &str = "unpack-as-disk";
    /// Takes the root file system on the disk image that the argument names into the current directory.
    pub const TREE_OF_DISK: &str = "tree-of-disk";
    /// Makes a disk image of a root file system, which the argument describes, in the current directory.
    pub const DISK_OF_TREE: &str = "disk-of-tree";
    /// Packs a machine's trees, which the argument describes, to standard output.
    pub const PACK: &str = "pack";
    /// Deletes the named directories of the current directory.
    pub const DELETE: &str = "delete";
    /// Runs a program (`EXE PROGRAM ARGS…`) that ends, with all that it has started, when the process that asked for
    /// it dies, and that holds the current directory until then.
    pub const RUN: &str = "run";
    /// What [`RUN`] starts: becomes the program.
    pub const BECOME: &str = "become";
}
