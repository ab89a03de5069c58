//! Formats that are one table of blocks: VDI, VHD, VHDX and Parallels HDD differ in where it is and in what its entries say.

use super::mapped::{Map, Place, Run};
use crate::Result;
use crate::error::{corrupt, unsupported};
use crate::pages::Pages;
use crate::{ImageError, MAX_DISK, Storage};

/// How entries of a table are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Le32,
    Be32,
    Le64,
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Self::Le32 | Self::Be32 => 4,
            Self::Le64 => 8,
        }
    }
}

/// What an entry says of its block.
pub type Meaning = Box<dyn Fn(u64) -> Result<Place> + Send + Sync>;

/// An image's map.
pub struct Blocks {
    pages: Pages,
    size: u64,
    block: u64,
    table: u64,
    width: Width,
    /// Where the entry for a block is in the table: where other things stand between them.
    index: fn(u64, u64) -> u64,
    ratio: u64,
    meaning: Meaning,
}

/// Where the table is.
pub struct Table {
    /// Size of the disk, bytes.
    pub size: u64,
    /// Size of a block, bytes.
    pub block: u64,
    /// Where it begins, bytes.
    pub at: u64,
    /// How many entries it has.
    pub entries: u64,
    pub width: Width,
    /// After so many entries comes one that stands for no block; 0 for never.
    pub ratio: u64,
}

impl Blocks {
    pub fn new(pages: Pages, table: &Table, meaning: Meaning) -> Result<Self> {
        if table.size > MAX_DISK {
            return Err(unsupported(format!("a size of {} bytes", table.size)));
        }
        if !(512..=1 << 30).contains(&table.block) || !table.block.is_multiple_of(512) {
            return Err(corrupt(format!("its blocks have the impossible size of {} bytes", table.block)));
        }
        let index: fn(u64, u64) -> u64 = match table.ratio {
            0 => |block, _| block,
            _ => |block, ratio| block + block / ratio,
        };
        let blocks = table.size.div_ceil(table.block);
        let needed = blocks.checked_sub(1).map_or(0, |last| index(last, table.ratio) + 1);
        if needed > table.entries {
            return Err(corrupt("its table of blocks is too small for its disk"));
        }
        let end = table.at.checked_add(needed * table.width.bytes());
        if end.is_none_or(|end| end > pages.storage().length()) {
            return Err(ImageError::Truncated("its table of blocks is not there".to_owned()));
        }
        Ok(Self {
            pages,
            size: table.size,
            block: table.block,
            table: table.at,
            width: table.width,
            index,
            ratio: table.ratio,
            meaning,
        })
    }
}

impl Map for Blocks {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Storage] {
        std::slice::from_ref(self.pages.storage())
    }

    fn grain(&self, _: usize) -> Option<u64> {
        Some(self.block)
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let (block, within) = (at / self.block, at % self.block);
        let place = self.table + (self.index)(block, self.ratio) * self.width.bytes();
        let entry = match self.width {
            Width::Le32 => u64::from(self.pages.le32(place)?),
            Width::Be32 => u64::from(self.pages.be32(place)?),
            Width::Le64 => self.pages.le64(place)?,
        };
        let place = match (self.meaning)(entry)? {
            Place::Plain { file, at } => {
                let at =
                    at.checked_add(within).ok_or_else(|| corrupt("a block is at an impossible place"))?;
                Place::Plain { file, at }
            }
            other => other,
        };
        Ok(Run { length: self.block - within, place })
    }
}
