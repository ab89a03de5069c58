//! VirtualBox's VDI, version 1.1, of growing and of fixed size (`VDICore.h` of VirtualBox). Numbers are little-endian.

use super::blocks::{Blocks, Table, Width};
use super::mapped::Place;
use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
use crate::pages::Pages;
use crate::{ImageError, Result, Storage};

/// Entries from this one on are no places: a block that is not there, or that was given back.
const NO_PLACE: u64 = 0xffff_fffe;
const VERSION: u32 = 0x0001_0001;

pub fn open(storage: Storage) -> Result<Blocks> {
    let start = storage.bytes(0, 512)?;
    if start.len() < 512 {
        return Err(ImageError::Truncated("its header is not whole".to_owned()));
    }
    let header = Header(&start);
    if header.le32(0x44) != VERSION {
        let version = header.le32(0x44);
        return Err(unsupported(format!("version {}.{} of VDI", version >> 16, version & 0xffff)));
    }
    match header.le32(0x4c) {
        1 | 2 => {}
        3 | 4 => return Err(ImageError::Differences(String::new())),
        other => return Err(corrupt(format!("its type {other} is none"))),
    }
    let (block, extra) = (u64::from(header.le32(0x178)), u64::from(header.le32(0x17c)));
    let (data, entries) = (u64::from(header.le32(0x158)), u64::from(header.le32(0x180)));
    let table = Table {
        size: header.le64(0x170),
        block,
        at: u64::from(header.le32(0x154)),
        entries,
        width: Width::Le32,
        ratio: 0,
    };
    let meaning = move |entry: u64| {
        Ok(match entry {
            NO_PLACE.. => Place::Zero,
            entry if entry >= entries => return Err(corrupt("a block is at an impossible place")),
            entry => {
                let at = entry.checked_mul(block + extra).and_then(|at| at.checked_add(data + extra));
                Place::Plain { file: 0, at: at.ok_or_else(|| corrupt("a block is at an impossible place"))? }
            }
        })
    };
    Blocks::new(Pages::new(storage), &table, Box::new(meaning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Map;

    #[test]
    fn blocks_behind_all_numbers_are_refused() {
        let mut bytes = vec![0; 1024];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0x44, VERSION);
        put(0x4c, 1);
        put(0x154, 512);
        put(0x158, u32::MAX);
        put(0x170, 1 << 30);
        put(0x178, 1 << 30);
        put(0x17c, u32::MAX);
        put(0x180, u32::MAX);
        put(512, 0xffff_fffd);
        let map = open(Storage::memory(bytes)).unwrap();
        assert!(matches!(map.locate(0), Err(ImageError::Corrupt(_))));
    }
}
