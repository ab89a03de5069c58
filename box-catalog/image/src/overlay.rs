//! Bytes over those of a file: what has to be written to it, and is not.

use std::collections::BTreeMap;

use crate::{Result, Storage};

/// Bytes of a sector, which changes begin and end at.
pub const SECTOR: usize = 4096;

/// Changes to a file; the last one of a place counts. Memory grows with their number, not with how long they are.
#[derive(Debug, Default)]
pub struct Changes {
    /// Where each piece begins, where it ends, and which of the sectors it is; zeros where it is none.
    pieces: BTreeMap<u64, (u64, Option<u32>)>,
    sectors: Vec<u8>,
}

impl Changes {
    /// Zeros from `start` up to `end`, both at borders of sectors.
    pub fn zero(&mut self, start: u64, end: u64) {
        self.set(start, end, None);
    }

    /// One sector of data, at the border of one.
    pub fn data(&mut self, start: u64, sector: &[u8; SECTOR]) {
        let number = match self.pieces.get(&start) {
            // What is written over again takes no more memory.
            Some((_, Some(number))) => {
                self.sectors[*number as usize * SECTOR..][..SECTOR].copy_from_slice(sector);
                return;
            }
            _ => (self.sectors.len() / SECTOR) as u32,
        };
        self.sectors.extend_from_slice(sector);
        self.set(start, start + SECTOR as u64, Some(number));
    }

    fn set(&mut self, start: u64, end: u64, sector: Option<u32>) {
        if start >= end {
            return;
        }
        let before = self.pieces.range_mut(..start).next_back();
        if let Some((_, (before_end, kind))) = before
            && *before_end > start
        {
            // Sectors are never cut: only zeros are longer than one.
            let (rest, kind) = (*before_end, *kind);
            if rest >= end && kind == sector {
                return;
            }
            *before_end = start;
            if rest > end {
                self.pieces.insert(end, (rest, kind));
            }
        }
        while let Some((&at, &(last, kind))) = self.pieces.range(start..end).next() {
            self.pieces.remove(&at);
            if last > end {
                self.pieces.insert(end, (last, kind));
            }
        }
        self.pieces.insert(start, (end, sector));
    }

    /// Where the last of them ends; 0 where there are none.
    pub fn end(&self) -> u64 {
        self.pieces.last_key_value().map_or(0, |(_, (end, _))| *end)
    }
}

/// A file with changes.
#[derive(Debug)]
pub struct Overlay {
    below: Storage,
    changes: Changes,
    length: u64,
}

impl Overlay {
    /// `below` with `changes`, extended with zeros to `length` and to where they end.
    pub fn new(below: Storage, changes: Changes, length: u64) -> Self {
        let length = below.length().max(changes.end()).max(length);
        Self { below, changes, length }
    }

    /// How long it is, bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `at` on, which is all within it.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let there = usize::try_from(self.below.length().saturating_sub(at)).unwrap_or(usize::MAX);
        let (old, new) = buffer.split_at_mut(there.min(buffer.len()));
        if !old.is_empty() {
            self.below.read_at(old, at)?;
        }
        new.fill(0);
        let end = at + buffer.len() as u64;
        let first = self.changes.pieces.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (&start, &(stop, sector)) in self.changes.pieces.range(first..end) {
            let (from, to) = (start.max(at), stop.min(end));
            if from >= to {
                continue;
            }
            let into = &mut buffer[(from - at) as usize..(to - at) as usize];
            match sector {
                None => into.fill(0),
                Some(number) => {
                    let skip = number as usize * SECTOR + (from - start) as usize;
                    into.copy_from_slice(&self.changes.sectors[skip..][..into.len()]);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: usize = 6 * SECTOR + 100;

    proptest! {
        /// Beside a file that is really written to.
        #[test]
        fn the_last_change_of_a_place_counts(
            writes in proptest::collection::vec((0_u64..10, 0_u64..4, 1_u8..), 0..20),
            reads in proptest::collection::vec((0_usize..15 * SECTOR, 0_usize..5 * SECTOR), 1..20),
        ) {
            let mut file = vec![0xee; FILE];
            let below = Storage::memory(file.clone());
            let mut changes = Changes::default();
            for (sector, zeros, byte) in writes {
                let start = sector * SECTOR as u64;
                let (end, byte) = match zeros {
                    0 => (start + SECTOR as u64, byte),
                    count => (start + count * SECTOR as u64, 0),
                };
                match zeros {
                    0 => changes.data(start, &[byte; SECTOR]),
                    _ => changes.zero(start, end),
                }
                file.resize(file.len().max(end as usize), 0);
                file[start as usize..end as usize].fill(byte);
            }
            let length = file.len().next_multiple_of(SECTOR * 4);
            file.resize(length, 0);
            let storage = Storage::over(Overlay::new(below, changes, length as u64));
            prop_assert_eq!(storage.length(), length as u64);
            for (at, count) in reads {
                let mut read = vec![0x11; count];
                match file.get(at..at + count) {
                    Some(expected) => {
                        storage.read_at(&mut read, at as u64).unwrap();
                        prop_assert!(read == expected, "{} bytes from {} on", count, at);
                    }
                    None => prop_assert!(storage.read_at(&mut read, at as u64).is_err()),
                }
            }
        }
    }

    #[test]
    fn what_is_written_over_again_takes_no_more_memory() {
        let mut changes = Changes::default();
        for byte in 0..200 {
            changes.data(8192, &[byte; SECTOR]);
            changes.zero(1 << 40, 1 << 50);
        }
        assert_eq!((changes.sectors.len(), changes.pieces.len(), changes.end()), (SECTOR, 2, 1 << 50));
    }
}
