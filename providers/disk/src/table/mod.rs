//! Partition tables: where on a disk file systems can be.

mod gpt;
mod mbr;

use std::io;

pub use gpt::{NewPartition, write_gpt};

use crate::{DiskError, Image};

/// Size of a sector, bytes: what images are made with whatever the disk they come from had.
pub(crate) const SECTOR: u64 = 512;
/// Most partitions that are looked at.
pub(crate) const MAX_PARTITIONS: usize = 256;

/// A partition, or the whole disk where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on, as it is in `/dev/vda1`; 0 is the whole disk.
    pub number: u32,
    /// Where it begins, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub length: u64,
    /// What `PARTUUID=` calls it, in lower case: a GUID (GPT), or signature and number (MBR).
    pub id: Option<String>,
    /// What `PARTLABEL=` calls it.
    pub label: Option<String>,
    /// Its type in GPT, a GUID in lower case.
    pub kind: Option<String>,
}

/// What divides a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// GUID partition table (UEFI 2.10 §5).
    Gpt,
    /// Master boot record.
    Mbr,
    /// Nothing: a file system has all of it.
    Whole,
}

/// Reads the partitions of a disk. One without a table is one partition, the whole.
///
/// # Errors
/// [`DiskError::Corrupt`], [`DiskError::Truncated`], [`DiskError::Io`].
pub fn partitions(disk: &Image) -> Result<(Scheme, Vec<Partition>), DiskError> {
    let whole = || Partition { number: 0, offset: 0, length: disk.size(), id: None, label: None, kind: None };
    if let Some(found) = gpt::read(disk)? {
        return Ok((Scheme::Gpt, found));
    }
    match mbr::read(disk)? {
        Some(found) => Ok((Scheme::Mbr, found)),
        None => Ok((Scheme::Whole, vec![whole()])),
    }
}

/// Reads `length` bytes at `offset`; `None` where they are beyond the disk's end.
fn read(disk: &Image, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
    let mut bytes = vec![0; length];
    match disk.read_at(offset, &mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(DiskError::io("read", disk.path(), error)),
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}
