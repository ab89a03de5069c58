//! The journal: what a system wrote down that did not come to put it in its place.
//!
//! Nothing is written: blocks of committed transactions are read from where the journal has them. What is in its area for fast commits is
//! not taken up, which leaves the file system as of the last whole transaction. Format: "Journal (jbd2)".

use std::collections::HashMap;

use super::Ext4;
use super::inode::Kind;
use super::map;
use crate::DiskError;

/// What blocks of the journal begin with.
pub const MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];
/// Longest journal, blocks.
const MAX_LENGTH: u32 = 1 << 20;
/// Blocks for fast commits, where their number is not told.
const FAST_COMMITS: u32 = 256;

mod feature {
    pub const WIDE: u32 = 0x2;
    pub const CSUM_V2: u32 = 0x8;
    pub const CSUM_V3: u32 = 0x10;
    pub const FAST_COMMIT: u32 = 0x20;
    pub const KNOWN: u32 = 0x1 | WIDE | 0x4 | CSUM_V2 | CSUM_V3 | FAST_COMMIT;
}

mod tag {
    pub const ESCAPED: u32 = 0x1;
    pub const SAME_UUID: u32 = 0x2;
    pub const LAST: u32 = 0x8;
}

/// Where a block is that the journal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The block that holds it.
    pub to: u64,
    /// Whether it begins with [`MAGIC`], which the journal's copy does not.
    pub escaped: bool,
}

/// Blocks that the journal has.
#[derive(Debug, Default)]
pub struct Replayed(pub HashMap<u64, Moved>);

/// What the journal of this file system holds. `fs` is as it is without it.
pub fn replay(fs: &Ext4) -> Result<Replayed, DiskError> {
    let blocks = &fs.blocks;
    let inode = fs.inode(fs.superblock.journal)?;
    if inode.kind != Kind::File || inode.is_inline() {
        return Err(blocks.corrupt("a journal that is no file"));
    }
    let place = |logical: u32| -> Result<u64, DiskError> {
        let run = map::find(blocks, &inode, u64::from(logical))?;
        run.start.ok_or_else(|| blocks.corrupt("a journal that is not whole"))
    };
    let head = blocks.block(place(0)?)?;
    let field = |at: usize| big(&head, at);
    // Version 1 of it has no features.
    let (kind, block_size, length, first) = (field(0x04), field(0x0c), field(0x10), field(0x14));
    let (sequence, start) = (field(0x18), field(0x1c));
    let features = if kind == 4 { field(0x28) } else { 0 };
    if !head.starts_with(&MAGIC) || !matches!(kind, 3 | 4) || block_size as usize != blocks.size {
        return Err(blocks.corrupt("a journal that makes no sense"));
    }
    if features & !feature::KNOWN != 0 {
        return Err(blocks.unsupported("a journal with a feature of its own"));
    }
    let fast = match field(0x54) {
        _ if features & feature::FAST_COMMIT == 0 => 0,
        0 => FAST_COMMITS,
        count => count,
    };
    let end = length.saturating_sub(fast);
    if length > MAX_LENGTH || first == 0 || first >= end || (start != 0 && !(first..end).contains(&start)) {
        return Err(blocks.corrupt("a journal of an impossible length"));
    }
    let mut log = Log { features, size: blocks.size, moved: Vec::new(), revoked: HashMap::new() };
    if start == 0 {
        return Ok(Replayed::default());
    }
    let after = |at: u32| if at + 1 == end { first } else { at + 1 };
    let (mut at, mut sequence, mut visited) = (start, sequence, 0);
    let mut pending = Log { moved: Vec::new(), revoked: HashMap::new(), ..log };
    while visited < end {
        let block = blocks.block(place(at)?)?;
        if !block.starts_with(&MAGIC) || big(&block, 8) != sequence {
            break;
        }
        at = after(at);
        visited += 1;
        match big(&block, 4) {
            1 => {
                for (number, escaped) in pending.tags(&block) {
                    pending.moved.push((sequence, number, Moved { to: place(at)?, escaped }));
                    at = after(at);
                    visited += 1;
                }
            }
            2 => {
                log.moved.append(&mut pending.moved);
                log.revoked.extend(pending.revoked.drain());
                sequence = sequence.wrapping_add(1);
            }
            5 => pending.revocations(&block, sequence),
            _ => break,
        }
    }
    Ok(log.replayed())
}

struct Log {
    features: u32,
    /// Bytes in a block.
    size: usize,
    /// Blocks, by the transactions that wrote them.
    moved: Vec<(u32, u64, Moved)>,
    /// Blocks that were given up, by the last transactions that did it: what came before must not be written.
    revoked: HashMap<u64, u32>,
}

impl Log {
    /// The blocks that a descriptor is about, in the order in which they follow it.
    fn tags(&self, block: &[u8]) -> Vec<(u64, bool)> {
        let has = |feature: u32| self.features & feature != 0;
        let length = if has(feature::CSUM_V3) {
            16
        } else {
            8 + 2 * usize::from(has(feature::CSUM_V2)) + 4 * usize::from(has(feature::WIDE))
        };
        let end = if has(feature::CSUM_V2 | feature::CSUM_V3) { self.size - 4 } else { self.size };
        let mut found = Vec::new();
        let mut at = 12;
        while at + length <= end {
            let flags =
                if has(feature::CSUM_V3) { big(block, at + 4) } else { u32::from(big_16(block, at + 6)) };
            let high = if has(feature::WIDE) { big(block, at + 8) } else { 0 };
            let number = u64::from(high) << 32 | u64::from(big(block, at));
            found.push((number, flags & tag::ESCAPED != 0));
            at += length + if flags & tag::SAME_UUID == 0 { 16 } else { 0 };
            if flags & tag::LAST != 0 {
                break;
            }
        }
        found
    }

    fn revocations(&mut self, block: &[u8], sequence: u32) {
        let end = (big(block, 12) as usize).min(block.len());
        let length = if self.features & feature::WIDE == 0 { 4 } else { 8 };
        for at in (16..).step_by(length).take_while(|at| at + length <= end) {
            let number = match length {
                4 => u64::from(big(block, at)),
                _ => u64::from(big(block, at)) << 32 | u64::from(big(block, at + 4)),
            };
            self.revoked.insert(number, sequence);
        }
    }

    fn replayed(self) -> Replayed {
        let counts = |number: &u64, sequence: u32| {
            // Numbers go round.
            let later = |revoked: &u32| revoked.wrapping_sub(sequence).cast_signed() >= 0;
            !self.revoked.get(number).is_some_and(later)
        };
        let kept = self.moved.iter().filter(|(sequence, number, _)| counts(number, *sequence));
        Replayed(kept.map(|(_, number, moved)| (*number, *moved)).collect())
    }
}

fn big(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn big_16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|field| field.try_into().ok()).map_or(0, u16::from_be_bytes)
}
