//! Extended attributes.

use super::blocks::{Blocks, u16_at, u32_at};
use super::content;
use super::inode::{Inode, Kind};
use super::superblock::Superblock;
use crate::DiskError;

const MAGIC: u32 = 0xea02_0000;
/// Largest value, bytes: the kernel's `XATTR_SIZE_MAX`.
const MAX_VALUE: u64 = 64 << 10;
/// Of the attributes of one file, the bytes of their names and values.
const MAX_ALL: usize = 1 << 20;
/// What holds the rest of a file that is kept in its inode.
const INLINE: (u8, &[u8]) = (7, b"data");

/// Names and values.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// All of them. Access control lists, whose form is the file system's own, are left out.
pub fn of(blocks: &Blocks, superblock: &Superblock, inode: &Inode) -> Result<Attributes, DiskError> {
    let mut found = Vec::new();
    let mut all = 0;
    each(blocks, superblock, inode, &mut |index, name, value| {
        let prefix: &[u8] = match index {
            1 => b"user.",
            4 => b"trusted.",
            6 => b"security.",
            _ => return Ok(()),
        };
        all += name.len() + value.len();
        if all > MAX_ALL {
            return Err(blocks.corrupt(format!("an inode {} with too many attributes", inode.number)));
        }
        found.push(([prefix, name].concat(), value));
        Ok(())
    })?;
    Ok(found)
}

/// The rest of what is kept in the inode.
pub fn inline(blocks: &Blocks, superblock: &Superblock, inode: &Inode) -> Result<Vec<u8>, DiskError> {
    let mut rest = Vec::new();
    each(blocks, superblock, inode, &mut |index, name, value| {
        if (index, name) == INLINE {
            rest = value;
        }
        Ok(())
    })?;
    Ok(rest)
}

type Take<'a> = dyn FnMut(u8, &[u8], Vec<u8>) -> Result<(), DiskError> + 'a;

fn each(
    blocks: &Blocks,
    superblock: &Superblock,
    inode: &Inode,
    take: &mut Take<'_>,
) -> Result<(), DiskError> {
    if u32_at(&inode.inside, 0) == MAGIC {
        let entries = &inode.inside[4..];
        list(blocks, superblock, inode, entries, entries, take)?;
    }
    if inode.attributes != 0 {
        let block = blocks.block(inode.attributes)?;
        if u32_at(&block, 0) != MAGIC {
            return Err(blocks.corrupt(format!("an inode {} whose attributes are not there", inode.number)));
        }
        list(blocks, superblock, inode, &block[32..], &block, take)?;
    }
    Ok(())
}

/// Goes through `entries`, whose values are in `values`.
fn list(
    blocks: &Blocks,
    superblock: &Superblock,
    inode: &Inode,
    mut entries: &[u8],
    values: &[u8],
    take: &mut Take<'_>,
) -> Result<(), DiskError> {
    let corrupt = || blocks.corrupt(format!("an inode {} whose attributes make no sense", inode.number));
    while u32_at(entries, 0) != 0 {
        let name_length = usize::from(entries[0]);
        let name = entries.get(16..16 + name_length).ok_or_else(corrupt)?;
        let (at, elsewhere, size) =
            (usize::from(u16_at(entries, 2)), u32_at(entries, 4), u64::from(u32_at(entries, 8)));
        if size > MAX_VALUE {
            return Err(corrupt());
        }
        let value = if elsewhere == 0 {
            values.get(at..at + size as usize).ok_or_else(corrupt)?.to_vec()
        } else {
            let holder = Inode::read(blocks, superblock, elsewhere)?;
            if holder.kind != Kind::File || holder.size != size || holder.is_inline() {
                return Err(corrupt());
            }
            content::whole(blocks, superblock, &holder)?
        };
        take(entries[1], name, value)?;
        entries = entries.get((16 + name_length).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}
