//! The two-level table from clusters of the disk to where they lie. The L1 table is kept whole, L2 tables in slices;
//! changes are in memory until they are planned for writing by [`super::flush`].

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;

use super::entry::{COPIED, OFFSET, corrupt};
use super::files::read_table;
use super::refcounts::{Patch, Refcounts};

/// Entries of a slice: 4 KiB of an L2 table, which with clusters of 64 KiB stand for 32 MiB of the disk.
const SLICE: usize = 512;
/// The most slices that are kept, 4 MiB of them.
const MAX_SLICES: usize = 1024;
/// As many changed ones make it time to write them.
const MANY_DIRTY: usize = MAX_SLICES / 2;

pub(super) struct Tables {
    cluster_bits: u32,
    l1_offset: u64,
    l1: Vec<u64>,
    /// L1 entries that are not on disk yet, nor is any of their tables.
    new_l1: BTreeSet<usize>,
    slices: HashMap<u64, Slice>,
    dirty: BTreeSet<u64>,
    clock: u64,
}

struct Slice {
    entries: Vec<u64>,
    state: State,
    used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    Dirty,
    /// Being written; must not be forgotten, as the disk does not have it yet.
    Writing,
}

/// What must be written of the tables: those that nothing on disk leads to yet, then with a sync between, the rest.
#[derive(Default)]
pub(super) struct TablePlan {
    pub unreachable: Vec<Patch>,
    pub rest: Vec<Patch>,
    slices: Vec<u64>,
    l1: Vec<usize>,
}

impl Tables {
    pub fn new(cluster_bits: u32, l1_offset: u64, l1: Vec<u64>) -> Self {
        Self {
            cluster_bits,
            l1_offset,
            l1,
            new_l1: BTreeSet::new(),
            slices: HashMap::new(),
            dirty: BTreeSet::new(),
            clock: 0,
        }
    }

    /// The bytes that the L1 table takes.
    pub fn l1_range(&self) -> (u64, u64) {
        (self.l1_offset, self.l1.len() as u64 * 8)
    }

    fn l2_bits(&self) -> u32 {
        self.cluster_bits - 3
    }

    fn slice_len(&self) -> u64 {
        (SLICE as u64).min(1 << self.l2_bits())
    }

    /// Where the L2 table for `cluster` lies; 0 for nowhere.
    fn table(&self, cluster: u64) -> io::Result<u64> {
        let entry = self.l1.get((cluster >> self.l2_bits()) as usize);
        let offset = entry.ok_or_else(|| corrupt("the L1 table is too small"))? & OFFSET;
        if !offset.is_multiple_of(1 << self.cluster_bits) {
            return Err(corrupt("an L1 entry leads between clusters"));
        }
        Ok(offset)
    }

    /// The clusters from `cluster` on of which no table says anything.
    pub fn untabled(&self, cluster: u64) -> io::Result<u64> {
        let per_table = 1 << self.l2_bits();
        Ok(if self.table(cluster)? == 0 { per_table - cluster % per_table } else { 0 })
    }

    /// The entry for `cluster`.
    pub fn get(&mut self, file: &File, cluster: u64) -> io::Result<u64> {
        let len = self.slice_len();
        if let Some(slice) = self.slices.get_mut(&(cluster / len)) {
            self.clock += 1;
            slice.used = self.clock;
            return Ok(slice.entries[(cluster % len) as usize]);
        }
        if self.table(cluster)? == 0 {
            return Ok(0);
        }
        Ok(self.slice(file, cluster)?.entries[(cluster % len) as usize])
    }

    fn slice(&mut self, file: &File, cluster: u64) -> io::Result<&mut Slice> {
        let len = self.slice_len();
        let key = cluster / len;
        self.clock += 1;
        if !self.slices.contains_key(&key) {
            self.forget_some();
            let within = cluster % (1 << self.l2_bits()) / len * len * 8;
            let entries = read_table(file, self.table(cluster)? + within, len as usize)?;
            self.slices.insert(key, Slice { entries, state: State::Clean, used: 0 });
        }
        let slice = self.slices.get_mut(&key).ok_or_else(|| corrupt("an L2 table is gone"))?;
        slice.used = self.clock;
        Ok(slice)
    }

    /// Makes room where there are too many slices: of those on disk too, an eighth of all that was not used longest.
    fn forget_some(&mut self) {
        if self.slices.len() < MAX_SLICES {
            return;
        }
        let clean = self.slices.iter().filter(|(_, slice)| slice.state == State::Clean);
        let mut oldest: Vec<(u64, u64)> = clean.map(|(&key, slice)| (slice.used, key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest.into_iter().take(MAX_SLICES / 8) {
            self.slices.remove(&key);
        }
    }

    /// Makes sure that there is a table for `cluster`, so that its entry can be set.
    pub fn prepare(&mut self, file: &File, refcounts: &mut Refcounts, cluster: u64) -> io::Result<()> {
        if self.table(cluster)? == 0 {
            let (offset, _) = refcounts.allocate(file, 1)?;
            let index = (cluster >> self.l2_bits()) as usize;
            self.l1[index] = offset | COPIED;
            self.new_l1.insert(index);
        }
        Ok(())
    }

    /// Sets the entry for `cluster`, for which there must be a table.
    pub fn set(&mut self, file: &File, cluster: u64, entry: u64) -> io::Result<()> {
        if self.table(cluster)? == 0 {
            return Err(corrupt("an L2 table is missing"));
        }
        let len = self.slice_len();
        let slice = self.slice(file, cluster)?;
        slice.entries[(cluster % len) as usize] = entry;
        slice.state = State::Dirty;
        self.dirty.insert(cluster / len);
        Ok(())
    }

    /// Whether anything is to be written.
    pub fn dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.new_l1.is_empty()
    }

    /// Whether so much is to be written that it is time.
    pub fn crowded(&self) -> bool {
        self.dirty.len() >= MANY_DIRTY
    }

    /// What must be written to have all changes so far on disk.
    pub fn plan(&mut self) -> TablePlan {
        let mut plan = TablePlan::default();
        let len = self.slice_len();
        for key in std::mem::take(&mut self.dirty) {
            let Some(slice) = self.slices.get_mut(&key) else { continue };
            slice.state = State::Writing;
            let cluster = key * len;
            let index = (cluster >> (self.cluster_bits - 3)) as usize;
            let within = cluster % (1 << (self.cluster_bits - 3)) * 8;
            let patch = ((self.l1[index] & OFFSET) + within, encode(&slice.entries));
            if self.new_l1.contains(&index) {
                plan.unreachable.push(patch);
            } else {
                plan.rest.push(patch);
            }
            plan.slices.push(key);
        }
        for index in std::mem::take(&mut self.new_l1) {
            plan.rest.push((self.l1_offset + 8 * index as u64, encode(&self.l1[index..=index])));
            plan.l1.push(index);
        }
        plan
    }

    /// What was planned is on disk.
    pub fn settle(&mut self, plan: &TablePlan) {
        for key in &plan.slices {
            if let Some(slice) = self.slices.get_mut(key)
                && slice.state == State::Writing
            {
                slice.state = State::Clean;
            }
        }
    }

    /// What was planned is not on disk.
    pub fn undo(&mut self, plan: &TablePlan) {
        for &key in &plan.slices {
            if let Some(slice) = self.slices.get_mut(&key) {
                slice.state = State::Dirty;
                self.dirty.insert(key);
            }
        }
        self.new_l1.extend(&plan.l1);
    }
}

fn encode(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}
