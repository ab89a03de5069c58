//! What is in a directory.

use super::blocks::{Blocks, Cursor};
use super::superblock::Superblock;
use super::{Source, corrupt};
use crate::unpack::refusal::{Refusal, lossy};

/// Bytes that a listing's size counts and that are not there: `.` and `..`.
const DOTS: u32 = 3;
const HEADER: u32 = 12;
const ENTRY: u32 = 8;
/// Most entries behind one header.
const MAX_RUN: u32 = 256;

/// A directory's listing, read as it goes.
pub struct Listing<'a, S> {
    from: Cursor<'a, S>,
    /// Bytes of it to come.
    left: u32,
    /// Entries to come before the next header.
    run: u32,
    /// Block of their inodes.
    inodes: u32,
}

/// What is in a directory under a name.
pub struct Child {
    pub name: Vec<u8>,
    /// Reference of its inode.
    pub inode: u64,
}

impl<'a, S: Source> Listing<'a, S> {
    pub fn open(
        blocks: &'a Blocks<S>,
        superblock: &Superblock,
        start: u32,
        offset: u16,
        size: u32,
    ) -> Result<Self, Refusal> {
        let reference = u64::from(start) << 16 | u64::from(offset);
        let from = Cursor::of(blocks, superblock.directory_table, reference)?;
        Ok(Self { from, left: size.saturating_sub(DOTS), run: 0, inodes: 0 })
    }

    pub fn next(&mut self) -> Result<Option<Child>, Refusal> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.take(HEADER)?;
            let count = self.from.u32()?;
            self.inodes = self.from.u32()?;
            let _first = self.from.u32()?;
            if count >= MAX_RUN {
                return Err(corrupt(format!("a directory with {count} entries in a run")));
            }
            self.run = count + 1;
        }
        self.take(ENTRY)?;
        let (offset, _difference, _kind, length) =
            (self.from.u16()?, self.from.u16()?, self.from.u16()?, self.from.u16()?);
        let length = u32::from(length) + 1;
        self.take(length)?;
        let name = self.from.vec(length as usize)?;
        self.run -= 1;
        if name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Refusal::LeadsOut(lossy(&name)));
        }
        if name.contains(&0) {
            return Err(Refusal::absurd(&name, "a zero byte in its name"));
        }
        Ok(Some(Child { name, inode: u64::from(self.inodes) << 16 | u64::from(offset) }))
    }

    fn take(&mut self, bytes: u32) -> Result<(), Refusal> {
        self.left =
            self.left.checked_sub(bytes).ok_or_else(|| corrupt("a directory that ends in an entry"))?;
        Ok(())
    }
}
