//! File systems on a disk: small files read whole and directories listed, as finding a kernel asks for, and all that they hold.

mod ext4;
#[cfg(any(test, feature = "fuzzing"))]
pub mod memory;

use std::fmt::Debug;

pub use ext4::Ext4;

use crate::{DiskError, Image, Partition};

/// Most names of a directory that are looked at.
pub const MAX_NAMES: usize = 10_000;

/// Files for reading. Paths are absolute and lead along symbolic links inside of the file system.
pub trait Files: Debug {
    /// The whole file at `path`; `None` where there is no such regular file.
    ///
    /// # Errors
    /// [`DiskError::Absurd`] where it is longer than `limit` bytes, [`DiskError::Corrupt`].
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, DiskError>;

    /// Names in the directory at `path`, sorted, at most [`MAX_NAMES`]; empty where there is no such directory.
    ///
    /// # Errors
    /// [`DiskError::Corrupt`].
    fn list(&self, path: &str) -> Result<Vec<String>, DiskError>;

    /// Whether there is anything at `path`.
    fn exists(&self, path: &str) -> bool;

    /// The file system to go through all of them, where they are of one.
    fn all(&self) -> Option<&Ext4> {
        None
    }
}

/// A file system on a disk.
#[derive(Debug)]
pub struct Volume {
    /// Where it is.
    pub partition: Partition,
    /// What `UUID=` calls it.
    pub uuid: Option<String>,
    /// What `LABEL=` calls it.
    pub label: Option<String>,
    /// What it is called by its kind: `ext4`, `xfs`.
    pub kind: &'static str,
    /// Its files, where this crate can read them.
    pub files: Option<Box<dyn Files>>,
}

/// What a file system holds in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path from the root, without a slash at its beginning; empty is the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, without access control lists.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file of `size` bytes, of which `extents` (where they begin, and their lengths) are no holes.
    File {
        /// Bytes in it.
        size: u64,
        /// In their order.
        extents: Vec<(u64, u64)>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A further name of a file that came before.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A block or character device.
    Device,
}

/// Opens the file system on `partition`; `None` where there is none that is known.
///
/// # Errors
/// [`DiskError::Corrupt`], [`DiskError::Truncated`], [`DiskError::Absurd`], [`DiskError::Io`].
pub fn open(disk: &Image, partition: &Partition) -> Result<Option<Volume>, DiskError> {
    let length = usize::try_from(partition.length.min(68 << 10)).unwrap_or(0);
    let mut start = vec![0; length];
    let failed = |error| DiskError::io("read", disk.path(), error);
    disk.read_at(partition.offset, &mut start).map_err(failed)?;
    let partition = partition.clone();
    let is = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let unread = |kind| Volume { partition: partition.clone(), uuid: None, label: None, kind, files: None };
    if is(1024 + 56, &[0x53, 0xef]) {
        let (files, uuid, label) = ext4::open(disk, &partition, &start)?;
        let files: Option<Box<dyn Files>> = Some(Box::new(files));
        return Ok(Some(Volume { partition, uuid: Some(uuid), label, kind: "ext4", files }));
    }
    let others: [(usize, &[u8], &str); 7] = [
        (0, b"XFSB", "xfs"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe", "encrypted (LUKS)"),
        (512, b"LABELONE", "an LVM volume"),
        (0, b"hsqs", "squashfs"),
        (82, b"FAT32", "FAT"),
        (54, b"FAT1", "FAT"),
    ];
    Ok(others.iter().find(|(at, magic, _)| is(*at, magic)).map(|(.., kind)| unread(kind)))
}
