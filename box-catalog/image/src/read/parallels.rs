//! Parallels' expanding disks, `.hds` (QEMU's `docs/interop/parallels.txt`). Numbers are little-endian.

use super::blocks::{Blocks, Table, Width};
use super::mapped::Place;
use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
use crate::pages::Cache;
use crate::{ImageError, Result, Storage};

const SECTOR: u64 = 512;
const HEADER: u64 = 64;
const VERSION: u32 = 2;

/// Opens one; the pages of its table are kept in `cache`.
pub fn open(storage: Storage, cache: &Cache) -> Result<Blocks> {
    let start = storage.bytes(0, HEADER as usize)?;
    if start.len() < HEADER as usize {
        return Err(ImageError::Truncated("its header is not whole".to_owned()));
    }
    let header = Header(&start);
    if header.le32(16) != VERSION {
        return Err(unsupported(format!("version {} of Parallels' disks", header.le32(16))));
    }
    let large = header.is(0, b"WithouFreSpacExt");
    let tracks = u64::from(header.le32(28));
    // In the older kind entries count sectors, and the size has 32 bits only.
    let (unit, sectors) = if large { (tracks, header.le64(36)) } else { (1, u64::from(header.le32(36))) };
    let size = sectors.checked_mul(SECTOR).ok_or_else(|| corrupt("its size is impossible"))?;
    let table = Table {
        size,
        block: tracks * SECTOR,
        at: HEADER,
        entries: u64::from(header.le32(32)),
        width: Width::Le32,
        ratio: 0,
    };
    let meaning = move |entry: u64| {
        Ok(match entry {
            0 => Place::Zero,
            entry => Place::Plain { file: 0, at: entry * unit * SECTOR },
        })
    };
    Blocks::new(cache.pages(storage), &table, Box::new(meaning))
}
