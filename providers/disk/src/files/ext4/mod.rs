//! ext2, ext3 and ext4, with what a journal holds that was not replayed.
//!
//! Blocks are read when they are asked for, and some of those that say where others are, are kept. Format: the Linux kernel's
//! `Documentation/filesystems/ext4`.

mod attributes;
mod blocks;
mod content;
mod directory;
mod inode;
mod journal;
mod map;
mod superblock;
mod walk;

use std::rc::Rc;

use self::blocks::Blocks;
pub use self::content::Content;
use self::inode::{Inode, Kind};
use self::superblock::Superblock;
use super::{Files, MAX_NAMES};
use crate::{DiskError, Image, Partition};

/// Symbolic links that one path may lead along.
const MAX_LINKS: usize = 40;
/// Directories and links that one path may have.
const MAX_STEPS: usize = 4096;

/// An open file system.
#[derive(Debug, Clone)]
pub struct Ext4 {
    blocks: Rc<Blocks>,
    superblock: Rc<Superblock>,
}

/// Opens the file system on `partition`, which begins with `start`; with its UUID and its label.
pub fn open(
    disk: &Image,
    partition: &Partition,
    start: &[u8],
) -> Result<(Ext4, String, Option<String>), DiskError> {
    let superblock = Superblock::read(disk.path(), partition, start)?;
    let uuid = superblock.uuid();
    let label = superblock.label();
    let (size, count) = (superblock.block_size, superblock.blocks);
    let blocks = || Blocks::new(disk.clone(), partition, size, count);
    let mut fs = Ext4 { blocks: Rc::new(blocks()), superblock: Rc::new(superblock) };
    if fs.superblock.needs_recovery() {
        // Blocks that were kept meanwhile may be old.
        fs.blocks = Rc::new(blocks().with(journal::replay(&fs)?));
    }
    Ok((fs, uuid, label))
}

impl Ext4 {
    fn inode(&self, number: u32) -> Result<Inode, DiskError> {
        Inode::read(&self.blocks, &self.superblock, number)
    }

    /// The inode at `path`, along symbolic links; `None` where there is none.
    fn find(&self, path: &str) -> Result<Option<Inode>, DiskError> {
        let mut open = vec![self.inode(inode::ROOT)?];
        let mut rest: Vec<Vec<u8>> = path.split('/').rev().map(|name| name.as_bytes().to_vec()).collect();
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = rest.pop() {
            steps += 1;
            let Some(here) = open.last() else { return Ok(None) };
            if steps > MAX_STEPS || here.kind != Kind::Directory {
                return Ok(None);
            }
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    if open.len() > 1 {
                        open.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let mut found = None;
            directory::entries(&self.blocks, &self.superblock, here, &mut |entry_name, number| {
                if entry_name == name {
                    found = Some(number);
                }
                Ok(found.is_none())
            })?;
            let Some(found) = found else { return Ok(None) };
            let next = self.inode(found)?;
            if next.kind == Kind::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                let target = content::link(&self.blocks, &self.superblock, &next)?;
                if target.starts_with(b"/") {
                    open.truncate(1);
                }
                rest.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            } else {
                open.push(next);
            }
        }
        Ok(open.pop())
    }
}

impl Files for Ext4 {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(inode) = self.find(path)?.filter(|inode| inode.kind == Kind::File) else { return Ok(None) };
        if inode.size > limit {
            let what = format!("its `{path}` has {} bytes, where {limit} are the limit", inode.size);
            return Err(DiskError::Absurd { path: self.blocks.path().to_owned(), what });
        }
        content::whole(&self.blocks, &self.superblock, &inode).map(Some)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        let Some(inode) = self.find(path)?.filter(|inode| inode.kind == Kind::Directory) else {
            return Ok(names);
        };
        directory::entries(&self.blocks, &self.superblock, &inode, &mut |name, _| {
            names.extend(str::from_utf8(name).ok().map(str::to_owned));
            Ok(names.len() < MAX_NAMES)
        })?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.find(path).is_ok_and(|inode| inode.is_some())
    }

    fn all(&self) -> Option<&Ext4> {
        Some(self)
    }
}
