//! Reference counts of an image's own clusters, and where new ones are taken from. All changes are in memory until
//! they are planned for writing by [`super::flush`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use super::entry::{OFFSET, corrupt};
use super::files::read_filled;

/// Refcounts of 16 bits; others are not written to.
pub(super) struct Refcounts {
    cluster_bits: u32,
    table_offset: u64,
    table: Vec<u64>,
    blocks: BTreeMap<usize, Block>,
    /// Clusters that are free, hold nothing but zeros, and lie before `end`.
    free: Vec<u64>,
    /// The first cluster behind all that was ever used.
    end: u64,
}

struct Block {
    counts: Vec<u16>,
    /// First and last changed entry.
    dirty: Option<(usize, usize)>,
    /// Not in the table on disk yet.
    new: bool,
}

/// Bytes to be written at an offset.
pub(super) type Patch = (u64, Vec<u8>);

/// What must be written of the refcounts, in this order and with a sync between the two: whole new blocks; entries of
/// the table for those, and changed counts.
#[derive(Default)]
pub(super) struct RefcountPlan {
    pub blocks: Vec<Patch>,
    pub rest: Vec<Patch>,
    touched: Vec<(usize, bool)>,
}

impl Refcounts {
    pub fn new(cluster_bits: u32, table_offset: u64, table: Vec<u64>, file_len: u64) -> Self {
        let end = file_len.div_ceil(1 << cluster_bits);
        Self { cluster_bits, table_offset, table, blocks: BTreeMap::new(), free: Vec::new(), end }
    }

    /// Entries of a block.
    fn per_block(&self) -> u64 {
        1 << (self.cluster_bits - 1)
    }

    /// The bytes that can be counted.
    pub fn reach(&self) -> u64 {
        (self.table.len() as u64 * self.per_block()).saturating_mul(1 << self.cluster_bits)
    }

    /// The first byte behind all clusters.
    pub fn end(&self) -> u64 {
        self.end << self.cluster_bits
    }

    fn block(&mut self, file: &File, index: usize) -> io::Result<&mut Block> {
        if !self.blocks.contains_key(&index) {
            let offset = self.table.get(index).copied().unwrap_or(0) & OFFSET;
            if offset == 0 || !offset.is_multiple_of(1 << self.cluster_bits) {
                return Err(corrupt("a cluster in use has no refcount"));
            }
            let mut bytes = vec![0; 1 << self.cluster_bits];
            read_filled(file, offset, &mut bytes)?;
            let counts = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            self.blocks.insert(index, Block { counts, dirty: None, new: false });
        }
        self.blocks.get_mut(&index).ok_or_else(|| corrupt("a refcount block is gone"))
    }

    fn place(&self, cluster: u64) -> (usize, usize) {
        ((cluster / self.per_block()) as usize, (cluster % self.per_block()) as usize)
    }

    /// Takes at least one and at most `wanted` clusters that lie side by side and read as zeros; returns the offset
    /// of the first and how many.
    pub fn allocate(&mut self, file: &File, wanted: u64) -> io::Result<(u64, u64)> {
        let (first, count) = match self.free.pop() {
            Some(cluster) => (cluster, 1),
            None => self.append(wanted)?,
        };
        for cluster in first..first + count {
            self.set(file, cluster, 1)?;
        }
        Ok((first << self.cluster_bits, count))
    }

    fn append(&mut self, wanted: u64) -> io::Result<(u64, u64)> {
        let (mut index, mut entry) = self.place(self.end);
        let slot = self.table.get_mut(index).ok_or_else(full)?;
        if *slot & OFFSET == 0 {
            // The block counts itself: it lies in the first cluster that it is for.
            *slot = self.end << self.cluster_bits;
            let mut counts = vec![0; self.per_block() as usize];
            counts[entry] = 1;
            self.blocks.insert(index, Block { counts, dirty: None, new: true });
            self.end += 1;
            (index, entry) = self.place(self.end);
            if self.table.get(index).is_none_or(|slot| slot & OFFSET == 0) {
                return self.append(wanted);
            }
        }
        let count = wanted.clamp(1, self.per_block() - entry as u64);
        let first = self.end;
        self.end += count;
        Ok((first, count))
    }

    fn set(&mut self, file: &File, cluster: u64, count: u16) -> io::Result<()> {
        let (index, entry) = self.place(cluster);
        let block = self.block(file, index)?;
        block.counts[entry] = count;
        let (first, last) = block.dirty.unwrap_or((entry, entry));
        block.dirty = Some((first.min(entry), last.max(entry)));
        Ok(())
    }

    /// Takes one reference away from the cluster at `offset`; returns whether that was the last.
    pub fn release(&mut self, file: &File, offset: u64) -> io::Result<bool> {
        let cluster = offset >> self.cluster_bits;
        let (index, entry) = self.place(cluster);
        let count = self.block(file, index)?.counts[entry];
        let left = count.checked_sub(1).ok_or_else(|| corrupt("a cluster in use has refcount zero"))?;
        self.set(file, cluster, left)?;
        Ok(left == 0)
    }

    /// Lets the cluster at `offset`, which has no reference and reads as zeros, be used again.
    pub fn reuse(&mut self, offset: u64) {
        self.free.push(offset >> self.cluster_bits);
    }

    /// Whether anything is to be written.
    pub fn dirty(&self) -> bool {
        self.blocks.values().any(|block| block.new || block.dirty.is_some())
    }

    /// What must be written to have all changes so far on disk; they then count as written.
    pub fn plan(&mut self) -> RefcountPlan {
        let mut plan = RefcountPlan::default();
        for (&index, block) in &mut self.blocks {
            let offset = self.table[index] & OFFSET;
            if std::mem::take(&mut block.new) {
                plan.blocks.push((offset, encode(&block.counts)));
                plan.rest.push((self.table_offset + 8 * index as u64, offset.to_be_bytes().to_vec()));
                block.dirty = None;
                plan.touched.push((index, true));
            } else if let Some((first, last)) = block.dirty.take() {
                plan.rest.push((offset + 2 * first as u64, encode(&block.counts[first..=last])));
                plan.touched.push((index, false));
            }
        }
        plan
    }

    /// Takes back that what was planned counts as written.
    pub fn undo(&mut self, plan: &RefcountPlan) {
        for &(index, new) in &plan.touched {
            if let Some(block) = self.blocks.get_mut(&index) {
                block.new = new;
                block.dirty = Some((0, block.counts.len() - 1));
            }
        }
    }
}

fn encode(counts: &[u16]) -> Vec<u8> {
    counts.iter().flat_map(|count| count.to_be_bytes()).collect()
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}
