//! A squashfs image, read as the entries of its tree.
//!
//! Nothing of it is held in memory that grows with it, but which directories and which files with several names were seen, whose paths are
//! bounded; its limits are those of all archives. Format: squashfs 4.0, Documentation/filesystems/squashfs.rst in the kernel's sources, and
//! <https://dr-emann.github.io/squashfs/squashfs.html>.

mod blocks;
mod codec;
mod content;
mod directory;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod inode;
mod superblock;
mod xattr;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use self::blocks::Blocks;
use self::content::Content;
use self::directory::Listing;
use self::inode::{Body, Inode};
use self::superblock::Superblock;
use super::Limits;
use super::refusal::Refusal;
use super::sparse;
use super::tar_stream::{Entry, Kind};
use super::tree::MAX_DEPTH;

#[cfg(any(test, feature = "fuzzing"))]
pub use self::fuzzing::check;

/// What a squashfs image begins with.
pub const MAGIC: &[u8] = b"hsqs";

/// Most bytes of paths that are remembered, here and by who makes the tree: those of directories and of files with several names.
const MAX_PATHS: usize = 256 << 20;

/// Something that can be read anywhere.
pub trait Source {
    /// Bytes there are.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` with what is at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

/// Takes an entry: its path, what it is, and what is in it.
pub type Take<'a> = dyn FnMut(&[u8], &Entry, &mut dyn Read) -> Result<(), Refusal> + 'a;

/// Hands over each entry of the image, directories before what is in them, the root first with an empty path.
/// What is more than `limits` allow, sockets counted, is refused before it is read.
///
/// # Errors
/// [`Refusal`]s of what cannot be, and those of `take`.
pub fn walk(source: impl Source, limits: Limits, take: &mut Take<'_>) -> Result<(), Refusal> {
    let superblock = Superblock::read(&source)?;
    let blocks = Blocks::new(source, &superblock);
    let ids = blocks.ids(&superblock)?;
    let mut walk = Walk {
        superblock: &superblock,
        blocks: &blocks,
        ids,
        limits,
        entries: 0,
        paths: 0,
        links: HashMap::new(),
        directories: HashSet::new(),
    };
    let Some(root) = walk.entry(superblock.root, Vec::new(), take)? else {
        return Err(Refusal::Corrupt("its root is no directory".to_owned()));
    };
    let mut open = vec![(Vec::new(), root)];
    while let Some((path, listing)) = open.last_mut() {
        let Some(child) = listing.next()? else {
            open.pop();
            continue;
        };
        let mut below = path.clone();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(&child.name);
        if open.len() >= MAX_DEPTH {
            return Err(Refusal::absurd(&below, format!("more than {MAX_DEPTH} directories above it")));
        }
        if let Some(listing) = walk.entry(child.inode, below.clone(), take)? {
            open.push((below, listing));
        }
    }
    Ok(())
}

struct Walk<'a, S> {
    superblock: &'a Superblock,
    blocks: &'a Blocks<S>,
    ids: Vec<u32>,
    limits: Limits,
    entries: u64,
    /// Bytes of paths that are remembered.
    paths: usize,
    /// Files with several names, by the numbers of their inodes; and the first name.
    links: HashMap<u32, Vec<u8>>,
    /// Directories that were entered: each has one place.
    directories: HashSet<u64>,
}

impl<'a, S: Source> Walk<'a, S> {
    /// Hands over the entry whose inode is at `place`; what is listed in it, where it is a directory.
    fn entry(
        &mut self,
        place: u64,
        path: Vec<u8>,
        take: &mut Take<'_>,
    ) -> Result<Option<Listing<'a, S>>, Refusal> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Refusal::TooLarge(format!("{} entries", self.limits.entries)));
        }
        let inode = Inode::read(self.blocks, self.superblock, place)?;
        let id = |index: u16| {
            let id = self.ids.get(usize::from(index)).copied();
            id.map(u64::from).ok_or_else(|| Refusal::absurd(&path, "an owner that is in no table"))
        };
        let mut entry = Entry {
            path: path.clone(),
            kind: Kind::Directory,
            mode: inode.mode & 0o7777,
            uid: id(inode.uid)?,
            gid: id(inode.gid)?,
            mtime: (i64::from(inode.mtime), 0),
            xattrs: match inode.xattrs {
                Some(index) => xattr::read(self.blocks, self.superblock, index, &path)?,
                None => Vec::new(),
            },
        };
        if !matches!(inode.body, Body::Directory { .. } | Body::Device | Body::Socket) && inode.links > 1 {
            if let Some(first) = self.links.get(&inode.number) {
                entry.kind = Kind::Hardlink(first.clone());
                take(&path, &entry, &mut io::empty())?;
                return Ok(None);
            }
            self.remember(&path)?;
            self.links.insert(inode.number, path.clone());
        }
        match inode.body {
            Body::Directory { start, offset, size } => {
                if !self.directories.insert(place) {
                    return Err(Refusal::absurd(&path, "a second place in the tree"));
                }
                self.remember(&path)?;
                take(&path, &entry, &mut io::empty())?;
                return Listing::open(self.blocks, self.superblock, start, offset, size).map(Some);
            }
            Body::File(file) => {
                if file.size > self.limits.bytes {
                    return Err(Refusal::TooLarge(format!("{} GiB", self.limits.bytes >> 30)));
                }
                let extents = file.extents()?;
                entry.kind = Kind::File {
                    size: file.size,
                    extents: extents.clone().unwrap_or_else(|| sparse::whole(file.size)),
                };
                let mut content = Content::new(self.blocks, self.superblock, file, extents.is_some());
                take(&path, &entry, &mut content)?;
            }
            Body::Symlink(target) => {
                entry.kind = Kind::Symlink(target);
                take(&path, &entry, &mut io::empty())?;
            }
            Body::Fifo => {
                entry.kind = Kind::Fifo;
                take(&path, &entry, &mut io::empty())?;
            }
            Body::Device => {
                entry.kind = Kind::Device;
                take(&path, &entry, &mut io::empty())?;
            }
            // Made by who listens at it.
            Body::Socket => {}
        }
        Ok(None)
    }

    fn remember(&mut self, path: &[u8]) -> Result<(), Refusal> {
        self.paths += path.len();
        if self.paths > MAX_PATHS {
            return Err(Refusal::TooLarge(format!("{} MiB of paths", MAX_PATHS >> 20)));
        }
        Ok(())
    }
}

/// What is wrong with an image.
fn corrupt(what: impl Into<String>) -> Refusal {
    Refusal::Corrupt(what.into())
}

#[cfg(test)]
mod tests;
