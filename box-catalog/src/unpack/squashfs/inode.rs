//! What an image knows of a file besides its name.

use super::Source;
use super::blocks::{Blocks, Cursor};
use super::content::Stored;
use super::corrupt;
use super::superblock::Superblock;
use crate::unpack::refusal::Refusal;

/// Most bytes of a symbolic link's target.
const MAX_TARGET: u32 = 4096;
/// No fragment, no extended attributes.
const NONE: u32 = u32::MAX;
/// What makes a kind an extended one.
const EXTENDED: u16 = 7;

/// An inode.
pub struct Inode<'a, S> {
    pub number: u32,
    pub mode: u32,
    /// Places in the table of ids.
    pub uid: u16,
    pub gid: u16,
    /// Seconds since 1970.
    pub mtime: u32,
    pub links: u32,
    /// A place in the table of extended attributes.
    pub xattrs: Option<u32>,
    pub body: Body<'a, S>,
}

/// What it is of.
pub enum Body<'a, S> {
    /// Its listing's block and place in the table of directories, and bytes.
    Directory {
        start: u32,
        offset: u16,
        size: u32,
    },
    File(Stored<'a, S>),
    Symlink(Vec<u8>),
    Device,
    Fifo,
    Socket,
}

impl<'a, S: Source> Inode<'a, S> {
    /// Reads the one that `reference` leads to.
    pub fn read(blocks: &'a Blocks<S>, superblock: &Superblock, reference: u64) -> Result<Self, Refusal> {
        let mut from = Cursor::of(blocks, superblock.inode_table, reference)?;
        let (kind, mode, uid, gid) = (from.u16()?, from.u16()?, from.u16()?, from.u16()?);
        let (mtime, number) = (from.u32()?, from.u32()?);
        let (mut links, mut xattrs) = (1, NONE);
        let body = match kind {
            1 => {
                let start = from.u32()?;
                links = from.u32()?;
                let (size, offset) = (from.u16()?, from.u16()?);
                Body::Directory { start, offset, size: size.into() }
            }
            8 => {
                links = from.u32()?;
                let (size, start, _parent, _indexes) = (from.u32()?, from.u32()?, from.u32()?, from.u16()?);
                let offset = from.u16()?;
                xattrs = from.u32()?;
                Body::Directory { start, offset, size }
            }
            2 => {
                let (start, fragment, offset, size) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
                Body::File(stored(superblock, start.into(), size.into(), (fragment, offset), from))
            }
            9 => {
                let (start, size, _sparse) = (from.u64()?, from.u64()?, from.u64()?);
                links = from.u32()?;
                let (fragment, offset) = (from.u32()?, from.u32()?);
                xattrs = from.u32()?;
                Body::File(stored(superblock, start, size, (fragment, offset), from))
            }
            3 | 10 => {
                links = from.u32()?;
                let length = from.u32()?;
                if length > MAX_TARGET {
                    return Err(corrupt(format!("a symbolic link of {length} bytes")));
                }
                let target = from.vec(length as usize)?;
                if kind > EXTENDED {
                    xattrs = from.u32()?;
                }
                Body::Symlink(target)
            }
            4 | 5 | 11 | 12 => {
                let _ = (from.u32()?, from.u32()?);
                Body::Device
            }
            6 | 7 | 13 | 14 => {
                links = from.u32()?;
                if kind > EXTENDED {
                    xattrs = from.u32()?;
                }
                if kind % EXTENDED == 6 { Body::Fifo } else { Body::Socket }
            }
            other => return Err(corrupt(format!("an inode of the unknown kind {other}"))),
        };
        let xattrs = (xattrs != NONE).then_some(xattrs);
        Ok(Self { number, mode: mode.into(), uid, gid, mtime, links, xattrs, body })
    }
}

fn stored<'a, S>(
    superblock: &Superblock,
    start: u64,
    size: u64,
    (fragment, offset): (u32, u32),
    sizes: Cursor<'a, S>,
) -> Stored<'a, S> {
    let fragment = (fragment != NONE).then_some((fragment, offset));
    Stored { start, size, block: u64::from(superblock.block_size), fragment, sizes }
}
