//! Where the content of an inode is.

use super::blocks::{Blocks, u16_at, u32_at};
use super::inode::Inode;
use crate::DiskError;

/// What a node of a tree of extents begins with.
const MAGIC: u16 = 0xf30a;
/// Deepest tree that the format knows.
const MAX_DEPTH: u16 = 5;
/// An extent this long or longer was given room, and never written.
const UNWRITTEN: u32 = 32768;

/// Blocks of a file that lie behind each other, or are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them on the disk; `None` is a hole.
    pub start: Option<u64>,
    /// How many, at least one.
    pub length: u64,
}

/// The run that begins with the block `logical` of the file.
pub fn find(blocks: &Blocks, inode: &Inode, logical: u64) -> Result<Run, DiskError> {
    if inode.has_extents() { by_extents(blocks, inode, logical) } else { by_pointers(blocks, inode, logical) }
}

fn by_extents(blocks: &Blocks, inode: &Inode, logical: u64) -> Result<Run, DiskError> {
    let corrupt = || blocks.corrupt(format!("an inode {} whose extents make no sense", inode.number));
    let mut node: std::rc::Rc<[u8]> = inode.block[..].into();
    let mut end = u64::from(u32::MAX) + 1;
    let mut above: Option<u16> = None;
    loop {
        let (entries, depth) = (usize::from(u16_at(&node, 2)), u16_at(&node, 6));
        let fits = above.map_or(depth <= MAX_DEPTH, |above| depth + 1 == above);
        if u16_at(&node, 0) != MAGIC || 12 + entries * 12 > node.len() || !fits {
            return Err(corrupt());
        }
        let first = |index: usize| u64::from(u32_at(&node, 12 + index * 12));
        // Sorted, as the kernel has it: a disk that has them otherwise finds less.
        let behind = partition(entries, |index| first(index) <= logical);
        if behind < entries {
            end = end.min(first(behind));
        }
        if logical >= end {
            return Err(corrupt());
        }
        let hole = Run { start: None, length: end - logical };
        let Some(index) = behind.checked_sub(1) else { return Ok(hole) };
        let at = 12 + index * 12;
        if depth > 0 {
            let child = u64::from(u16_at(&node, at + 8)) << 32 | u64::from(u32_at(&node, at + 4));
            above = Some(depth);
            node = blocks.block(child)?;
            continue;
        }
        let length = u32::from(u16_at(&node, at + 4));
        let start = u64::from(u16_at(&node, at + 6)) << 32 | u64::from(u32_at(&node, at + 8));
        let (length, written) = if length > UNWRITTEN { (length - UNWRITTEN, false) } else { (length, true) };
        let into = logical - first(index);
        if into >= u64::from(length) {
            return Ok(hole);
        }
        let left = (u64::from(length) - into).min(end - logical);
        return Ok(Run { start: written.then_some(start + into), length: left });
    }
}

/// How many of `count`, from the first on, are `before`.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Twelve blocks, and then trees of pointers one, two and three levels high ("Direct/Indirect Block Addressing").
fn by_pointers(blocks: &Blocks, inode: &Inode, logical: u64) -> Result<Run, DiskError> {
    let pointers = (blocks.size / 4) as u64;
    let slot = |index: u64| u64::from(u32_at(&inode.block, index as usize * 4));
    if logical < 12 {
        return Ok(following(logical, 12, slot));
    }
    let mut index = logical - 12;
    for level in 1..=3_u32 {
        let span = pointers.pow(level);
        if index >= span {
            index -= span;
            continue;
        }
        let mut block = slot(11 + u64::from(level));
        let mut span = span;
        loop {
            if block == 0 {
                return Ok(Run { start: None, length: span - index });
            }
            let table = blocks.block(block)?;
            let pointer = |at: u64| u64::from(u32_at(&table, at as usize * 4));
            span /= pointers;
            if span == 1 {
                return Ok(following(index, pointers, pointer));
            }
            block = pointer(index / span);
            index %= span;
        }
    }
    Err(blocks.corrupt(format!("an inode {} that is larger than it can be", inode.number)))
}

/// The run from `index` on of `count` pointers.
fn following(index: u64, count: u64, pointer: impl Fn(u64) -> u64) -> Run {
    let start = pointer(index);
    let goes_on = |more: &u64| match start {
        0 => pointer(index + more) == 0,
        start => pointer(index + more) == start + more,
    };
    let length = (1..count - index).take_while(goes_on).count() as u64 + 1;
    Run { start: (start != 0).then_some(start), length }
}
