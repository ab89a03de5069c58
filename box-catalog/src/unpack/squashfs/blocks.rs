//! Blocks of an image: those of tables, and those of files.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::codec::Codec;
use super::superblock::Superblock;
use super::{Source, corrupt};
use crate::unpack::refusal::Refusal;

/// Most bytes in a block of a table.
pub const METADATA: usize = 8192;
/// Blocks of tables, and of fragments, that are kept unpacked.
const KEPT: usize = 64;
const KEPT_FRAGMENTS: usize = 4;
/// In the size of a table's block: it is not compressed.
const PLAIN: u16 = 1 << 15;
/// The same in the size of a file's block.
const PLAIN_DATA: u32 = 1 << 24;

/// Bytes that a file's block with the size `word` takes in the image.
pub const fn packed_size(word: u32) -> u32 {
    word & !PLAIN_DATA
}

/// A block of a table, and where the next one begins.
type Metadata = (Rc<Vec<u8>>, u64);

/// The blocks of an image.
pub struct Blocks<S> {
    source: S,
    codec: Codec,
    end: u64,
    metadata: RefCell<VecDeque<(u64, Metadata)>>,
    fragments: RefCell<VecDeque<(u64, Rc<Vec<u8>>)>>,
}

impl<S: Source> Blocks<S> {
    pub fn new(source: S, superblock: &Superblock) -> Self {
        let (codec, end) = (superblock.codec, superblock.end);
        Self { source, codec, end, metadata: RefCell::default(), fragments: RefCell::default() }
    }

    /// `N` bytes at `offset`, as they are.
    pub fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Refusal> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.end) {
            return Err(corrupt("something lies behind its end"));
        }
        self.source.read_exact_at(buffer, offset).map_err(|error| Refusal::reading(&error))
    }

    /// The table's block at `offset`.
    fn metadata(&self, offset: u64) -> Result<Metadata, Refusal> {
        let mut kept = self.metadata.borrow_mut();
        if let Some((_, found)) = kept.iter().find(|(at, _)| *at == offset) {
            return Ok(found.clone());
        }
        let head = u16::from_le_bytes(self.bytes(offset)?);
        let mut packed = vec![0; usize::from(head & !PLAIN)];
        self.read(&mut packed, offset + 2)?;
        let next = offset + 2 + packed.len() as u64;
        let bytes = if head & PLAIN == 0 { self.codec.unpack(&packed, METADATA)? } else { packed };
        if bytes.is_empty() || bytes.len() > METADATA {
            return Err(corrupt(format!("a block of a table with {} bytes", bytes.len())));
        }
        let found = (Rc::new(bytes), next);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((offset, found.clone()));
        Ok(found)
    }

    /// The block of a file at `offset` with the size `word`, which is to have `length` bytes unpacked.
    pub fn data(&self, offset: u64, word: u32, length: usize) -> Result<Vec<u8>, Refusal> {
        let bytes = self.block(offset, word, length)?;
        if bytes.len() != length {
            return Err(corrupt(format!("a block of {} bytes in place of {length}", bytes.len())));
        }
        Ok(bytes)
    }

    /// What is in the block at `offset` with the size `word`, `most` bytes where it is compressed.
    fn block(&self, offset: u64, word: u32, most: usize) -> Result<Vec<u8>, Refusal> {
        let size = packed_size(word);
        // A block that does not become smaller is not compressed.
        if size as usize > most + METADATA {
            return Err(corrupt(format!("a block of {size} bytes")));
        }
        let mut packed = vec![0; size as usize];
        self.read(&mut packed, offset)?;
        if word & PLAIN_DATA == 0 { self.codec.unpack(&packed, most) } else { Ok(packed) }
    }

    /// The ends of files that are kept together under `index`.
    pub fn fragment(&self, superblock: &Superblock, index: u32) -> Result<Rc<Vec<u8>>, Refusal> {
        if index >= superblock.fragments {
            return Err(corrupt("a fragment that is in no table"));
        }
        let mut entry = self.entry(superblock.fragment_table, index, 16)?;
        let (offset, word) = (entry.u64()?, entry.u32()?);
        let mut kept = self.fragments.borrow_mut();
        if let Some((_, found)) = kept.iter().find(|(at, _)| *at == offset) {
            return Ok(found.clone());
        }
        let found = Rc::new(self.block(offset, word, superblock.block_size as usize)?);
        if kept.len() == KEPT_FRAGMENTS {
            kept.pop_front();
        }
        kept.push_back((offset, found.clone()));
        Ok(found)
    }

    /// The ids of users and groups.
    pub fn ids(&self, superblock: &Superblock) -> Result<Vec<u32>, Refusal> {
        let mut ids = Vec::new();
        for index in 0..u32::from(superblock.ids) {
            ids.push(self.entry(superblock.id_table, index, 4)?.u32()?);
        }
        Ok(ids)
    }

    /// Where entry `index` of a table begins, whose entries have `size` bytes each, and whose blocks are listed at `table`.
    pub fn entry(&self, table: u64, index: u32, size: u32) -> Result<Cursor<'_, S>, Refusal> {
        let each = METADATA as u32 / size;
        let listed = table
            .checked_add(u64::from(index / each) * 8)
            .ok_or_else(|| corrupt("a table behind its end"))?;
        let block = u64::from_le_bytes(self.bytes(listed)?);
        Ok(Cursor::new(self, block, (index % each * size) as usize))
    }
}

/// A place in a table.
pub struct Cursor<'a, S> {
    blocks: &'a Blocks<S>,
    block: Option<Rc<Vec<u8>>>,
    /// Where the next block begins.
    next: u64,
    /// How far into the block it is.
    at: usize,
}

// Derived, it would want `S` to be cloned.
impl<S> Clone for Cursor<'_, S> {
    fn clone(&self) -> Self {
        Self { blocks: self.blocks, block: self.block.clone(), next: self.next, at: self.at }
    }
}

impl<'a, S: Source> Cursor<'a, S> {
    /// `offset` bytes into what the block at `block` unpacks to.
    pub fn new(blocks: &'a Blocks<S>, block: u64, offset: usize) -> Self {
        Self { blocks, block: None, next: block, at: offset }
    }

    /// Where `reference` leads in the table at `table`.
    pub fn of(blocks: &'a Blocks<S>, table: u64, reference: u64) -> Result<Self, Refusal> {
        let block =
            table.checked_add(reference >> 16).ok_or_else(|| corrupt("a reference behind its end"))?;
        Ok(Self::new(blocks, block, (reference & 0xffff) as usize))
    }

    pub fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), Refusal> {
        while !buffer.is_empty() {
            let block = match &self.block {
                Some(block) if self.at < block.len() => block,
                there => {
                    // What is left to go of a first block must lie in it.
                    let (block, next) = self.blocks.metadata(self.next)?;
                    if there.is_some() {
                        self.at = 0;
                    } else if self.at >= block.len() {
                        return Err(corrupt("a place behind the end of its block"));
                    }
                    self.next = next;
                    self.block.insert(block)
                }
            };
            let count = buffer.len().min(block.len() - self.at);
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(&block[self.at..self.at + count]);
            self.at += count;
            buffer = later;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Refusal> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many bytes.
    pub fn vec(&mut self, length: usize) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; length];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}
