//! What an image says of itself at its start.

use super::codec::Codec;
use super::{MAGIC, Source, corrupt};
use crate::unpack::refusal::Refusal;

const SIZE: usize = 96;
/// Block sizes that the kernel takes, as powers of two.
const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;
/// A table that is not there.
pub const NONE: u64 = u64::MAX;

/// The superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    pub block_size: u32,
    pub fragments: u32,
    pub codec: Codec,
    pub ids: u16,
    /// Reference of the root's inode.
    pub root: u64,
    /// Bytes that the image takes.
    pub end: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
}

impl Superblock {
    /// Reads that of `source`.
    pub fn read(source: &impl Source) -> Result<Self, Refusal> {
        let mut bytes = [0; SIZE];
        source.read_exact_at(&mut bytes, 0).map_err(|error| Refusal::reading(&error))?;
        let length = source.length().map_err(|error| Refusal::reading(&error))?;
        let superblock = Self::parse(&bytes)?;
        if superblock.end > length {
            return Err(Refusal::Truncated);
        }
        Ok(superblock)
    }

    fn parse(bytes: &[u8; SIZE]) -> Result<Self, Refusal> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if !bytes.starts_with(MAGIC) {
            return Err(corrupt("it is no squashfs image"));
        }
        let version = (u16_at(28), u16_at(30));
        if version != (4, 0) {
            return Err(corrupt(format!("squashfs {}.{} is not read, only 4.0", version.0, version.1)));
        }
        let (block_size, log) = (u32_at(12), u16_at(22));
        if !BLOCK_LOGS.contains(&log) || block_size != 1 << log {
            return Err(corrupt(format!("a block size of {block_size}")));
        }
        Ok(Self {
            block_size,
            fragments: u32_at(16),
            codec: Codec::of(u16_at(20))?,
            ids: u16_at(26),
            root: u64_at(32),
            end: u64_at(40),
            id_table: u64_at(48),
            xattr_table: u64_at(56),
            inode_table: u64_at(64),
            directory_table: u64_at(72),
            fragment_table: u64_at(80),
        })
    }
}
