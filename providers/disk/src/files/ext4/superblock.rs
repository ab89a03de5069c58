//! The superblock, and where groups of inodes are.

use std::path::Path;

use super::blocks::{Blocks, u16_at, u32_at};
use crate::{DiskError, Partition};

/// What a file system may have that changes how it is read.
mod incompatible {
    pub const FILE_TYPE: u32 = 0x2;
    pub const RECOVER: u32 = 0x4;
    pub const META_BG: u32 = 0x10;
    pub const EXTENTS: u32 = 0x40;
    pub const WIDE: u32 = 0x80;
    pub const MMP: u32 = 0x100;
    pub const FLEX_BG: u32 = 0x200;
    pub const EA_INODE: u32 = 0x400;
    pub const CSUM_SEED: u32 = 0x2000;
    pub const LARGE_DIR: u32 = 0x4000;
    pub const INLINE_DATA: u32 = 0x8000;
    pub const CASE_FOLD: u32 = 0x2_0000;
    pub const KNOWN: u32 = FILE_TYPE
        | RECOVER
        | META_BG
        | EXTENTS
        | WIDE
        | MMP
        | FLEX_BG
        | EA_INODE
        | CSUM_SEED
        | LARGE_DIR
        | INLINE_DATA
        | CASE_FOLD;
}
const ENCRYPTED: u32 = 0x1_0000;
/// Compatible: backups of the superblock are in two groups.
const SPARSE_SUPER_2: u32 = 0x200;
/// Read-only compatible: not every group has a backup of the superblock.
const SPARSE_SUPER: u32 = 0x1;

/// What is needed of the superblock.
#[derive(Debug)]
pub struct Superblock {
    /// Bytes in a block.
    pub block_size: usize,
    pub blocks: u64,
    pub inodes: u32,
    pub inode_size: usize,
    /// The inode of the journal.
    pub journal: u32,
    first_block: u64,
    blocks_per_group: u64,
    inodes_per_group: u32,
    descriptor_size: usize,
    first_meta_group: u64,
    compatible: u32,
    incompatible: u32,
    read_only: u32,
    backups: [u32; 2],
    uuid: [u8; 16],
    label: Vec<u8>,
}

impl Superblock {
    /// That of the file system on `partition`, which begins with `start`.
    pub fn read(path: &Path, partition: &Partition, start: &[u8]) -> Result<Self, DiskError> {
        let corrupt = |what: &str| Err(DiskError::corrupt(path, format!("its ext4 file system {what}")));
        let Some(bytes) = start.get(1024..2048) else {
            return Err(DiskError::truncated(path, "its ext4 file system is not whole"));
        };
        let incompatible = u32_at(bytes, 0x60);
        if let unknown @ 1.. = incompatible & !incompatible::KNOWN {
            let what = match unknown & ENCRYPTED {
                0 => format!("an ext4 file system with a feature of its own ({unknown:#x})"),
                _ => "an ext4 file system with encrypted files".to_owned(),
            };
            return Err(DiskError::Unsupported { path: path.to_owned(), what });
        }
        let wide = incompatible & incompatible::WIDE != 0;
        let bits = u32_at(bytes, 0x18);
        if bits > 6 {
            return corrupt("has blocks of an impossible size");
        }
        let block_size = 1024_usize << bits;
        let high = if wide { u64::from(u32_at(bytes, 0x150)) } else { 0 };
        let old = u32_at(bytes, 0x4c) == 0;
        let this = Self {
            block_size,
            blocks: high << 32 | u64::from(u32_at(bytes, 0x04)),
            inodes: u32_at(bytes, 0x00),
            inode_size: if old { 128 } else { usize::from(u16_at(bytes, 0x58)) },
            journal: u32_at(bytes, 0xe0),
            first_block: u64::from(u32_at(bytes, 0x14)),
            blocks_per_group: u64::from(u32_at(bytes, 0x20)),
            inodes_per_group: u32_at(bytes, 0x28),
            descriptor_size: if wide { usize::from(u16_at(bytes, 0xfe)) } else { 32 },
            first_meta_group: u64::from(u32_at(bytes, 0x104)),
            compatible: u32_at(bytes, 0x5c),
            incompatible,
            read_only: u32_at(bytes, 0x64),
            backups: [u32_at(bytes, 0x24c), u32_at(bytes, 0x250)],
            uuid: bytes[0x68..0x78].try_into().unwrap_or_default(),
            label: bytes[0x78..0x88].iter().copied().take_while(|byte| *byte != 0).collect(),
        };
        if this.blocks_per_group == 0 || this.inodes_per_group == 0 {
            return corrupt("has an impossible number of block groups");
        }
        if !(128..=block_size).contains(&this.inode_size) {
            return corrupt("has inodes of an impossible size");
        }
        if !(32..=block_size).contains(&this.descriptor_size) || (wide && this.descriptor_size < 64) {
            return corrupt("has block groups of an impossible kind");
        }
        match this.blocks.checked_mul(block_size as u64) {
            Some(size) if size <= partition.length => Ok(this),
            _ => Err(DiskError::truncated(path, "its ext4 file system is larger than its partition")),
        }
    }

    /// Whether it has a journal that was not replayed.
    pub fn needs_recovery(&self) -> bool {
        self.incompatible & incompatible::RECOVER != 0
    }

    /// Whether directories say what their entries are.
    pub fn has_types(&self) -> bool {
        self.incompatible & incompatible::FILE_TYPE != 0
    }

    /// Whether the size of a directory may need more than 32 bits.
    pub fn has_large_directories(&self) -> bool {
        self.incompatible & incompatible::LARGE_DIR != 0
    }

    pub fn uuid(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    pub fn label(&self) -> Option<String> {
        String::from_utf8(self.label.clone()).ok().filter(|label| !label.is_empty())
    }

    /// The block in which the inode `number` is, and where in it.
    pub fn place_of(&self, blocks: &Blocks, number: u32) -> Result<(u64, usize), DiskError> {
        if number == 0 || number > self.inodes {
            return Err(blocks.corrupt(format!("no inode {number}")));
        }
        let group = u64::from((number - 1) / self.inodes_per_group);
        let within = u64::from((number - 1) % self.inodes_per_group) * self.inode_size as u64;
        let in_block = (self.block_size / self.descriptor_size) as u64;
        let descriptors = blocks.block(self.descriptors(group / in_block, in_block))?;
        let descriptor = &descriptors[(group % in_block) as usize * self.descriptor_size..];
        let high = if self.descriptor_size >= 64 { u64::from(u32_at(descriptor, 0x28)) } else { 0 };
        let table = high << 32 | u64::from(u32_at(descriptor, 0x08));
        let size = self.block_size as u64;
        Ok((table.saturating_add(within / size), (within % size) as usize))
    }

    /// The block with the descriptors of the groups from `index` × `in_block` on ("Meta Block Groups").
    fn descriptors(&self, index: u64, in_block: u64) -> u64 {
        // Of blocks of 1 KiB, the first has none of it.
        let superblock = u64::from(self.block_size == 1024);
        if self.incompatible & incompatible::META_BG == 0 || index < self.first_meta_group {
            return superblock + 1 + index;
        }
        let group = index.saturating_mul(in_block);
        let first = self.first_block.saturating_add(group.saturating_mul(self.blocks_per_group));
        let before = if index == 0 { superblock - superblock.min(self.first_block) } else { 0 };
        first.saturating_add(u64::from(self.has_superblock(group)) + before)
    }

    fn has_superblock(&self, group: u64) -> bool {
        if self.compatible & SPARSE_SUPER_2 != 0 {
            return group == 0 || self.backups.iter().any(|backup| u64::from(*backup) == group);
        }
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        self.read_only & SPARSE_SUPER == 0 || group <= 1 || [3, 5, 7].into_iter().any(power_of)
    }
}
