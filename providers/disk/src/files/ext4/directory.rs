//! What is in directories. They are read from their first block to their last: the index of a large one looks, to whoever does not
//! know it, like blocks without entries ("Hash Tree Directories").

use super::blocks::{Blocks, u16_at, u32_at};
use super::content;
use super::inode::Inode;
use super::map;
use super::superblock::Superblock;
use crate::DiskError;

/// Largest directory, bytes.
const MAX_SIZE: u64 = 4 << 30;

/// Takes a name with its inode's number, and says whether there may be more.
type Take<'a> = dyn FnMut(&[u8], u32) -> Result<bool, DiskError> + 'a;

/// Hands over each name with its inode's number, those for itself and for what is above it left out, until `take` says that it is
/// enough.
pub fn entries(
    blocks: &Blocks,
    superblock: &Superblock,
    inode: &Inode,
    take: &mut Take<'_>,
) -> Result<(), DiskError> {
    if inode.is_inline() {
        let bytes = content::inline(blocks, superblock, inode)?;
        // What is above it, in place of two entries; and two lists, of which none reaches into the other.
        let (first, second) = bytes.split_at(bytes.len().min(inode.block.len()));
        for list in [first.get(4..).unwrap_or_default(), second] {
            if !list.is_empty() && !each(blocks, superblock, inode, list, take)? {
                break;
            }
        }
        return Ok(());
    }
    if inode.size > MAX_SIZE {
        return Err(blocks.corrupt(format!("a directory of {} bytes", inode.size)));
    }
    let mut logical = 0;
    while logical < inode.size.div_ceil(blocks.size as u64) {
        let run = map::find(blocks, inode, logical)?;
        if let Some(start) = run.start {
            let block = blocks.block(start)?;
            if !each(blocks, superblock, inode, &block, take)? {
                break;
            }
            logical += 1;
        } else {
            logical += run.length;
        }
    }
    Ok(())
}

fn each(
    blocks: &Blocks,
    superblock: &Superblock,
    inode: &Inode,
    list: &[u8],
    take: &mut Take<'_>,
) -> Result<bool, DiskError> {
    let corrupt = || blocks.corrupt(format!("a directory, inode {}, that makes no sense", inode.number));
    let mut at = 0;
    while at + 8 <= list.len() {
        let entry = &list[at..];
        let length = match usize::from(u16_at(entry, 4)) {
            // All of a block of 64 KiB.
            0 | 0xffff if list.len() == 1 << 16 => list.len(),
            length => length,
        };
        let name_length =
            if superblock.has_types() { usize::from(entry[6]) } else { usize::from(u16_at(entry, 6)) };
        if length < 8 || length > entry.len() {
            return Err(corrupt());
        }
        let number = u32_at(entry, 0);
        if number != 0 {
            let name =
                entry.get(8..8 + name_length).filter(|_| 8 + name_length <= length).ok_or_else(corrupt)?;
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(corrupt());
            }
            if !matches!(name, b"." | b"..") && !take(name, number)? {
                return Ok(false);
            }
        }
        at += length;
    }
    Ok(true)
}
