//! A squashfs image, read as the entries of its tree.
//!
//! Nothing of it is held in memory that grows with it, but which directories and which files with several names were seen; its limits are
//! those of all archives. Format: squashfs 4.0, Documentation/filesystems/squashfs.rst in the kernel's sources, and
//! <https://dr-emann.github.io/squashfs/squashfs.html>.

mod blocks;
mod codec;
mod content;
mod directory;
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
use super::refusal::Refusal;
use super::sparse;
use super::tar_stream::{Entry, Kind};
use super::tree::MAX_DEPTH;

/// What a squashfs image begins with.
pub const MAGIC: &[u8] = b"hsqs";

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
///
/// # Errors
/// [`Refusal`]s of what cannot be, and those of `take`.
pub fn walk(source: impl Source, take: &mut Take<'_>) -> Result<(), Refusal> {
    let superblock = Superblock::read(&source)?;
    let blocks = Blocks::new(source, &superblock);
    let ids = blocks.ids(&superblock)?;
    let mut walk = Walk {
        superblock: &superblock,
        blocks: &blocks,
        ids,
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
            self.links.insert(inode.number, path.clone());
        }
        match inode.body {
            Body::Directory { start, offset, size } => {
                if !self.directories.insert(place) {
                    return Err(Refusal::absurd(&path, "a second place in the tree"));
                }
                take(&path, &entry, &mut io::empty())?;
                return Listing::open(self.blocks, self.superblock, start, offset, size).map(Some);
            }
            Body::File(file) => {
                let extents = file.extents(self.blocks)?;
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
}

/// What is wrong with an image.
fn corrupt(what: impl Into<String>) -> Refusal {
    Refusal::Corrupt(what.into())
}

#[cfg(test)]
mod tests;
