//! qcow2 version 3 (QEMU's `docs/interop/qcow2.txt`): header, first table, then data and second tables as they come, and
//! the reference counts, all of them one, at the end.

use super::output::Output;
use super::{sectors, unfit};
use crate::copy::{Told, data_runs, in_order};
use crate::{Format, MAX_DISK, ReadImage, Result};

const BITS: u32 = 16;
const CLUSTER: u64 = 1 << BITS;
/// Entries of a table of the second level, and reference counts of 16 bits in a cluster.
const L2: u64 = CLUSTER / 8;
const COUNTS: u64 = CLUSTER / 2;
/// Nothing else refers to it.
const OWN: u64 = 1 << 63;

pub fn write(image: &dyn ReadImage, out: &Output, told: Told<'_>) -> Result<()> {
    if image.size() > MAX_DISK {
        return Err(unfit(Format::Qcow2, image, "64 TiB is the most"));
    }
    let size = sectors(image) * 512;
    let l1_entries = size.div_ceil(CLUSTER * L2).max(1);
    let mut writing = Writing {
        out,
        next: 1 + (l1_entries * 8).div_ceil(CLUSTER),
        l1: vec![0; l1_entries as usize],
        l2: vec![0; L2 as usize],
        number: 0,
    };
    let work = |_: u64, bytes: &[u8]| {
        Ok(data_runs(bytes, CLUSTER as usize).map(|(at, run)| (at as u64, run.to_vec())).collect::<Vec<_>>())
    };
    in_order(image, told, work, |offset, runs| {
        runs.into_iter().try_for_each(|(at, run)| writing.data((offset + at) / CLUSTER, &run))
    })?;
    writing.finish(size)
}

struct Writing<'a> {
    out: &'a Output,
    /// The next cluster of the file that is free.
    next: u64,
    l1: Vec<u64>,
    /// The table for the data that comes now.
    l2: Vec<u64>,
    number: usize,
}

impl Writing<'_> {
    /// Takes clusters from `first` on, none of them all zeros.
    fn data(&mut self, first: u64, bytes: &[u8]) -> Result<()> {
        let number = (first / L2) as usize;
        if number != self.number {
            self.end_table()?;
            self.number = number;
        }
        let count = (bytes.len() as u64).div_ceil(CLUSTER);
        self.out.write_at(bytes, self.next * CLUSTER)?;
        for cluster in 0..count {
            // A piece is a part of what one table stands for.
            self.l2[((first + cluster) % L2) as usize] = ((self.next + cluster) * CLUSTER) | OWN;
        }
        self.next += count;
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        if self.l2.iter().any(|entry| *entry != 0) {
            self.out.write_at(&be(&self.l2), self.next * CLUSTER)?;
            self.l1[self.number] = (self.next * CLUSTER) | OWN;
            self.next += 1;
            self.l2.fill(0);
        }
        Ok(())
    }

    fn finish(mut self, size: u64) -> Result<()> {
        self.end_table()?;
        self.out.write_at(&be(&self.l1), CLUSTER)?;
        // The counts count the clusters they are in, too.
        let (mut blocks, mut table) = (0, 0);
        loop {
            let all = self.next + blocks + table;
            let needed = (all.div_ceil(COUNTS), (all.div_ceil(COUNTS) * 8).div_ceil(CLUSTER));
            if needed == (blocks, table) {
                break;
            }
            (blocks, table) = needed;
        }
        let (table_at, blocks_at, all) = (self.next, self.next + table, self.next + blocks + table);
        let places: Vec<u64> = (0..blocks).map(|block| (blocks_at + block) * CLUSTER).collect();
        self.out.write_at(&be(&places), table_at * CLUSTER)?;
        let ones = [0, 1].repeat(COUNTS as usize);
        for block in 0..blocks {
            let count = (all - block * COUNTS).min(COUNTS) as usize;
            self.out.write_at(&ones[..count * 2], (blocks_at + block) * CLUSTER)?;
        }
        self.out.set_length(all * CLUSTER)?;
        let mut header = Vec::new();
        header.extend(b"QFI\xfb");
        let be32 = |header: &mut Vec<u8>, value: u32| header.extend(value.to_be_bytes());
        let be64 = |header: &mut Vec<u8>, value: u64| header.extend(value.to_be_bytes());
        be32(&mut header, 3);
        be64(&mut header, 0); // no backing file
        be32(&mut header, 0);
        be32(&mut header, BITS);
        be64(&mut header, size);
        be32(&mut header, 0); // no encryption
        be32(&mut header, self.l1.len() as u32);
        be64(&mut header, CLUSTER);
        be64(&mut header, table_at * CLUSTER);
        be32(&mut header, table as u32);
        be32(&mut header, 0); // no snapshots
        be64(&mut header, 0);
        for _features in 0..3 {
            be64(&mut header, 0);
        }
        be32(&mut header, 4); // counts of 2⁴ bits
        be32(&mut header, 104);
        be64(&mut header, 0); // no extensions
        self.out.write_at(&header, 0)
    }
}

fn be(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}
