//! VirtualBox's VDI, version 1.1, of growing and of fixed size (`VDICore.h` of VirtualBox). Numbers are little-endian.

use super::blocks::{Blocks, Table, Width};
use super::mapped::Place;
use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
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
            entry => Place::Plain { file: 0, at: data + entry * (block + extra) + extra },
        })
    };
    Blocks::new(storage, &table, Box::new(meaning))
}
