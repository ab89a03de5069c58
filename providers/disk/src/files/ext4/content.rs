//! What is in files.

use std::io::{self, Read};

use super::Ext4;
use super::attributes;
use super::blocks::Blocks;
use super::inode::Inode;
use super::map::{self, Run};
use super::superblock::Superblock;
use crate::DiskError;

/// Longest symbolic link, bytes.
const MAX_LINK: u64 = 4096;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Fills `buffer` with what is at `offset` of the file, holes as zeros; as far as one run goes, whose length comes back.
fn read_at(blocks: &Blocks, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
    let size = blocks.size as u64;
    let (logical, within) = (offset / size, (offset % size) as usize);
    let run = map::find(blocks, inode, logical)?;
    let length = run.start.map_or(run.length, |start| blocks.together(start, run.length));
    let most = length.saturating_mul(size).saturating_sub(within as u64);
    let count = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    match run.start {
        Some(start) => blocks.read(start, within, &mut buffer[..count])?,
        None => buffer[..count].fill(0),
    }
    Ok(count)
}

/// All of the file, whose size the caller has looked at.
pub fn whole(blocks: &Blocks, superblock: &Superblock, inode: &Inode) -> Result<Vec<u8>, DiskError> {
    let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
    if inode.is_inline() {
        return inline(blocks, superblock, inode);
    }
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        done += read_at(blocks, inode, done as u64, &mut bytes[done..])?;
    }
    Ok(bytes)
}

/// What is kept in the inode itself, and in an attribute where that is too small ("Inline Data").
pub fn inline(blocks: &Blocks, superblock: &Superblock, inode: &Inode) -> Result<Vec<u8>, DiskError> {
    let mut bytes = inode.block.to_vec();
    if inode.size > bytes.len() as u64 {
        bytes.extend(attributes::inline(blocks, superblock, inode)?);
    }
    match usize::try_from(inode.size) {
        Ok(size) if size <= bytes.len() => bytes.truncate(size),
        _ => return Err(blocks.corrupt(format!("an inode {} that holds less than it says", inode.number))),
    }
    Ok(bytes)
}

/// Where a symbolic link leads.
pub fn link(blocks: &Blocks, superblock: &Superblock, inode: &Inode) -> Result<Vec<u8>, DiskError> {
    if inode.size > MAX_LINK {
        return Err(blocks.corrupt(format!("a symbolic link of {} bytes", inode.size)));
    }
    if !inode.is_inline() && !inode.has_extents() && inode.size < inode.block.len() as u64 {
        return Ok(inode.block[..inode.size as usize].to_vec());
    }
    whole(blocks, superblock, inode)
}

/// The parts of a file that are no holes: where they begin, and their lengths, bytes. `None` where there are more than `most`.
pub fn extents(blocks: &Blocks, inode: &Inode, most: usize) -> Result<Option<Vec<(u64, u64)>>, DiskError> {
    if inode.is_inline() {
        return Ok(Some(vec![(0, inode.size)]));
    }
    let size = blocks.size as u64;
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < inode.size {
        let Run { start, length } = map::find(blocks, inode, at / size)?;
        let length = length.saturating_mul(size).min(inode.size - at);
        if start.is_some() {
            let full = found.len() >= most;
            match found.last_mut() {
                Some((begin, have)) if *begin + *have == at => *have += length,
                _ if full => return Ok(None),
                _ => found.push((at, length)),
            }
        }
        at += length;
    }
    Ok(Some(found))
}

/// Reads the parts of a file that are no holes, one behind the other.
#[derive(Debug)]
pub struct Content {
    of: Ext4,
    inode: Inode,
    /// What is kept in the inode.
    inside: Option<Vec<u8>>,
    /// Those that are still to come, the next one last.
    left: Vec<(u64, u64)>,
    piece: Vec<u8>,
    at: usize,
}

impl Content {
    /// Of `inode`, whose parts are `extents`.
    pub(super) fn new(of: &Ext4, inode: &Inode, extents: &[(u64, u64)]) -> Result<Self, DiskError> {
        let inside = inode.is_inline().then(|| inline(&of.blocks, &of.superblock, inode)).transpose()?;
        let left = extents.iter().rev().copied().filter(|(_, length)| *length > 0).collect();
        Ok(Self { of: of.clone(), inode: inode.clone(), inside, left, piece: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> Result<(), DiskError> {
        self.piece.clear();
        self.at = 0;
        let Some((offset, length)) = self.left.last_mut() else { return Ok(()) };
        let count = usize::try_from(*length).unwrap_or(PIECE).min(PIECE);
        self.piece.resize(count, 0);
        let done = match &self.inside {
            Some(inside) => {
                self.piece.copy_from_slice(&inside[*offset as usize..*offset as usize + count]);
                count
            }
            None => read_at(&self.of.blocks, &self.inode, *offset, &mut self.piece)?,
        };
        self.piece.truncate(done);
        *offset += done as u64;
        *length -= done as u64;
        if *length == 0 {
            self.left.pop();
        }
        Ok(())
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            self.next().map_err(io::Error::other)?;
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
