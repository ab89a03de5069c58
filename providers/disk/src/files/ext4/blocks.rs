//! A file system's blocks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::journal::{MAGIC, Replayed};
use crate::{DiskError, Image, Partition};

/// Bytes of blocks that are kept.
const KEPT: usize = 4 << 20;

/// The blocks of a file system on a disk.
#[derive(Debug)]
pub struct Blocks {
    disk: Image,
    offset: u64,
    /// Bytes in a block.
    pub size: usize,
    count: u64,
    replayed: Replayed,
    kept: RefCell<HashMap<u64, Rc<[u8]>>>,
}

impl Blocks {
    pub fn new(disk: Image, partition: &Partition, size: usize, count: u64) -> Self {
        Self {
            disk,
            offset: partition.offset,
            size,
            count,
            replayed: Replayed::default(),
            kept: RefCell::default(),
        }
    }

    /// The same, with what the journal says of them.
    pub fn with(self, replayed: Replayed) -> Self {
        Self { replayed, ..self }
    }

    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    pub fn corrupt(&self, what: impl std::fmt::Display) -> DiskError {
        DiskError::corrupt(self.path(), format!("its ext4 file system has {what}"))
    }

    pub fn unsupported(&self, what: &str) -> DiskError {
        DiskError::Unsupported {
            path: self.path().to_owned(),
            what: format!("an ext4 file system with {what}"),
        }
    }

    /// A whole block, which is kept for a while.
    pub fn block(&self, number: u64) -> Result<Rc<[u8]>, DiskError> {
        if let Some(block) = self.kept.borrow().get(&number) {
            return Ok(block.clone());
        }
        let mut bytes = vec![0; self.size];
        self.read(number, 0, &mut bytes)?;
        let block: Rc<[u8]> = bytes.into();
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT / self.size {
            kept.clear();
        }
        kept.insert(number, block.clone());
        Ok(block)
    }

    /// Fills `buffer` with what is `within` bytes into the block `number` and behind; no further than to the end of the last
    /// of the blocks that lie behind each other on the disk, which are [`Blocks::together`].
    pub fn read(&self, number: u64, within: usize, buffer: &mut [u8]) -> Result<(), DiskError> {
        let blocks = ((within + buffer.len()).div_ceil(self.size)).max(1) as u64;
        if number.checked_add(blocks).is_none_or(|end| end > self.count) {
            return Err(self.corrupt("a block beyond its end"));
        }
        let moved = self.replayed.0.get(&number);
        let from = moved.map_or(number, |moved| moved.to);
        let at = self.offset + from * self.size as u64 + within as u64;
        self.disk.read_at(at, buffer).map_err(|error| DiskError::io("read", self.path(), error))?;
        if moved.is_some_and(|moved| moved.escaped) && within < MAGIC.len() {
            let left = MAGIC.len() - within;
            let count = left.min(buffer.len());
            buffer[..count].copy_from_slice(&MAGIC[within..within + count]);
        }
        Ok(())
    }

    /// How many of `count` blocks from `first` on lie behind each other.
    pub fn together(&self, first: u64, count: u64) -> u64 {
        if self.replayed.0.is_empty() {
            return count;
        }
        if self.replayed.0.contains_key(&first) {
            return 1;
        }
        (1..count).find(|more| self.replayed.0.contains_key(&(first + more))).unwrap_or(count)
    }
}

/// The number of two bytes at `at`; 0 behind the end.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|field| field.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// The number of four bytes at `at`; 0 behind the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}
