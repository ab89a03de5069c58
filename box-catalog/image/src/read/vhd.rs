//! Virtual PC's VHD, of fixed size and growing ("Virtual Hard Disk Image Format Specification", 1.0). Numbers are
//! big-endian.

use super::blocks::{Blocks, Table, Width};
use super::mapped::{Mapped, Place};
use super::raw::{Flat, Piece};
use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
use crate::pages::Pages;
use crate::{ImageError, ReadImage, Result, Storage};

const FOOTER: u64 = 512;
const SECTOR: u64 = 512;
const NOT_THERE: u64 = 0xffff_ffff;

pub fn open(storage: Storage) -> Result<Box<dyn ReadImage>> {
    let footer = footer(&storage)?;
    let header = Header(&footer);
    let size = header.be64(48);
    match header.be32(60) {
        2 => {
            if storage.length() < FOOTER || size > storage.length() - FOOTER {
                return Err(ImageError::Truncated(format!("a disk of {size} bytes is not there")));
            }
            let piece = Piece { length: size, storage: Some(storage.part(0, size)) };
            Ok(Box::new(Mapped::new(Flat::new(vec![piece])?)))
        }
        3 => Ok(Box::new(Mapped::new(growing(storage, size, header.be64(16))?))),
        4 => Err(ImageError::Differences(String::new())),
        other => Err(unsupported(format!("type {other} of VHD"))),
    }
}

/// The one at the end, or its copy at the start where that one is gone.
fn footer(storage: &Storage) -> Result<Vec<u8>> {
    let end = storage.bytes(storage.length().saturating_sub(FOOTER), FOOTER as usize)?;
    let start = storage.bytes(0, FOOTER as usize)?;
    let sound = |footer: &&Vec<u8>| {
        footer.len() == FOOTER as usize && footer.starts_with(b"conectix") && checksum_holds(footer, 64)
    };
    [end, start].iter().find(sound).cloned().ok_or_else(|| {
        ImageError::Truncated("the footer that describes it is not there or damaged".to_owned())
    })
}

fn growing(storage: Storage, size: u64, at: u64) -> Result<Blocks> {
    let bytes = storage.bytes(at, 1024)?;
    let header = Header(&bytes);
    if bytes.len() < 1024 || !header.is(0, b"cxsparse") || !checksum_holds(&bytes, 36) {
        return Err(corrupt("the header of its table cannot be read"));
    }
    let block = u64::from(header.be32(32));
    // Before each block are bits that say which of its sectors are in use; the others hold zeros.
    let bitmap = block.div_ceil(SECTOR * 8).next_multiple_of(SECTOR);
    let table = Table {
        size,
        block,
        at: header.be64(16),
        entries: u64::from(header.be32(28)),
        width: Width::Be32,
        ratio: 0,
    };
    let meaning = move |entry| {
        Ok(match entry {
            NOT_THERE => Place::Zero,
            sector => Place::Plain { file: 0, at: sector * SECTOR + bitmap },
        })
    };
    Blocks::new(Pages::new(storage), &table, Box::new(meaning))
}

/// The one's complement of the sum of all bytes but the checksum's own.
fn checksum_holds(bytes: &[u8], at: usize) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let own = bytes.get(at..at + 4).map_or(0, sum);
    !(sum(bytes).wrapping_sub(own)) == Header(bytes).be32(at)
}
