//! What is in a file.

use std::io::{self, Read};

use super::blocks::{Blocks, Cursor, packed_size};
use super::superblock::Superblock;
use super::{Source, corrupt};
use crate::unpack::refusal::Refusal;
use crate::unpack::sparse::Extent;

/// Pieces between holes that are told of one file; those of a file with more are all filled.
const MAX_EXTENTS: usize = 100_000;

/// Where a file is kept.
pub struct Stored<'a, S> {
    /// Of its first block.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block: u64,
    /// Where its end is, if that is kept with those of others: which fragment, and how far into it.
    pub fragment: Option<(u32, u32)>,
    /// The sizes of its blocks.
    pub sizes: Cursor<'a, S>,
}

// Derived, it would want `S` to be cloned.
impl<S> Clone for Stored<'_, S> {
    fn clone(&self) -> Self {
        Self { sizes: self.sizes.clone(), ..*self }
    }
}

impl<S: Source> Stored<'_, S> {
    /// Blocks of its own.
    fn count(&self) -> u64 {
        match self.fragment {
            Some(_) => self.size / self.block,
            None => self.size.div_ceil(self.block),
        }
    }

    /// The pieces of it that are no holes; `None` where there are too many.
    pub fn extents(&self) -> Result<Option<Vec<Extent>>, Refusal> {
        self.extents_up_to(MAX_EXTENTS)
    }

    pub(super) fn extents_up_to(&self, most: usize) -> Result<Option<Vec<Extent>>, Refusal> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut sizes = self.sizes.clone();
        let add = |extents: &mut Vec<Extent>, offset: u64, length: u64| match extents.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => extents.push(Extent { offset, length }),
        };
        for index in 0..self.count() {
            let offset = index * self.block;
            if sizes.u32()? != 0 {
                add(&mut extents, offset, self.block.min(self.size - offset));
            }
            // A hostile list of blocks packs well: it is given up before it is in memory.
            if extents.len() > most {
                return Ok(None);
            }
        }
        let rest = self.count() * self.block;
        if self.fragment.is_some() && rest < self.size {
            add(&mut extents, rest, self.size - rest);
        }
        Ok((extents.len() <= most).then_some(extents))
    }
}

/// What is in a file, one block after the other, with or without its holes.
pub struct Content<'a, S> {
    blocks: &'a Blocks<S>,
    superblock: &'a Superblock,
    file: Stored<'a, S>,
    without_holes: bool,
    /// Blocks of its own that are to come.
    left: u64,
    /// Bytes of the file that are to come.
    rest: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl<'a, S: Source> Content<'a, S> {
    pub fn new(
        blocks: &'a Blocks<S>,
        superblock: &'a Superblock,
        file: Stored<'a, S>,
        without_holes: bool,
    ) -> Self {
        let (left, rest) = (file.count(), file.size);
        Self { blocks, superblock, file, without_holes, left, rest, buffer: Vec::new(), taken: 0 }
    }

    /// The next block; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        while self.left > 0 {
            let length = self.rest.min(self.file.block);
            let word = self.file.sizes.u32()?;
            self.left -= 1;
            self.rest -= length;
            if word != 0 {
                let bytes = self.blocks.data(self.file.start, word, length as usize)?;
                self.file.start += u64::from(packed_size(word));
                return Ok(Some(bytes));
            }
            if !self.without_holes {
                return Ok(Some(vec![0; length as usize]));
            }
        }
        let (Some((index, offset)), true) = (self.file.fragment, self.rest > 0) else { return Ok(None) };
        let fragment = self.blocks.fragment(self.superblock, index)?;
        let end = u64::from(offset) + self.rest;
        self.rest = 0;
        let part = usize::try_from(end).ok().and_then(|end| fragment.get(offset as usize..end));
        part.map(|part| Some(part.to_vec()))
            .ok_or_else(|| corrupt("the end of a file behind that of its fragment"))
    }
}

impl<S: Source> Read for Content<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            match self.next().map_err(told)? {
                Some(block) => (self.buffer, self.taken) = (block, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.buffer.len() - self.taken);
        buffer[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

/// As who reads it tells it again.
fn told(refusal: Refusal) -> io::Error {
    match refusal {
        Refusal::Truncated => io::ErrorKind::UnexpectedEof.into(),
        Refusal::Corrupt(what) => io::Error::other(what),
        other => io::Error::other(other),
    }
}
