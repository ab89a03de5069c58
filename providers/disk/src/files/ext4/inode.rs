//! Inodes.

use super::blocks::{Blocks, u16_at, u32_at};
use super::superblock::Superblock;
use crate::DiskError;

/// The root directory.
pub const ROOT: u32 = 2;

const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    pub number: u32,
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes in it.
    pub size: u64,
    /// Names it has.
    pub links: u16,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Where its content is, or the content itself.
    pub block: [u8; 60],
    /// The block with its extended attributes; 0 is none.
    pub attributes: u64,
    /// Extended attributes in the inode, with what says that they are there.
    pub inside: Vec<u8>,
    flags: u32,
}

impl Inode {
    pub fn read(blocks: &Blocks, superblock: &Superblock, number: u32) -> Result<Self, DiskError> {
        let (block, within) = superblock.place_of(blocks, number)?;
        let block = blocks.block(block)?;
        let bytes = block
            .get(within..within + superblock.inode_size)
            .ok_or_else(|| blocks.corrupt(format!("an inode {number} across two blocks")))?;
        let mode = u32::from(u16_at(bytes, 0x00));
        let kind = match mode & 0xf000 {
            0x8000 => Kind::File,
            0x4000 => Kind::Directory,
            0xa000 => Kind::Symlink,
            0x1000 => Kind::Fifo,
            0xc000 => Kind::Socket,
            0x2000 | 0x6000 => Kind::Device,
            _ => return Err(blocks.corrupt(format!("an inode {number} that is nothing"))),
        };
        let two =
            |low: usize, high: usize| u32::from(u16_at(bytes, high)) << 16 | u32::from(u16_at(bytes, low));
        let wide = kind == Kind::File || (kind == Kind::Directory && superblock.has_large_directories());
        let high = if wide { u64::from(u32_at(bytes, 0x6c)) } else { 0 };
        let extra = if bytes.len() > 130 { usize::from(u16_at(bytes, 0x80)) } else { 0 };
        // Signed 32 bits, and two more above them ("Inode Timestamps").
        let seconds = i64::from(u32_at(bytes, 0x10).cast_signed());
        let more = if extra >= 0x8c - 0x80 { u32_at(bytes, 0x88) } else { 0 };
        Ok(Self {
            number,
            kind,
            mode: mode & 0o7777,
            uid: two(0x02, 0x78),
            gid: two(0x18, 0x7a),
            size: high << 32 | u64::from(u32_at(bytes, 0x04)),
            links: u16_at(bytes, 0x1a),
            mtime: (seconds + (i64::from(more & 3) << 32), more >> 2),
            block: bytes[0x28..0x64].try_into().unwrap_or([0; 60]),
            attributes: u64::from(u16_at(bytes, 0x76)) << 32 | u64::from(u32_at(bytes, 0x68)),
            inside: bytes.get(128 + extra..).unwrap_or_default().to_vec(),
            flags: u32_at(bytes, 0x20),
        })
    }

    /// Whether extents say where its content is.
    pub fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    /// Whether its content is in the inode.
    pub fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }
}
