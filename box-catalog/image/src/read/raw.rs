//! Bytes as they are, in one file or in several behind each other. Raw disks, VHDs of fixed size and flat VMDKs are that.

use super::mapped::{Map, Place, Run};
use crate::error::unsupported;
use crate::{MAX_DISK, Result, Storage};

/// A piece of the disk.
#[derive(Debug, Clone)]
pub struct Piece {
    /// How long it is, bytes.
    pub length: u64,
    /// What it holds; zeros where there is none.
    pub storage: Option<Storage>,
}

/// Pieces behind each other.
pub struct Flat {
    files: Vec<Storage>,
    /// Where each piece ends on the disk, and which file it is.
    ends: Vec<(u64, Option<usize>)>,
}

impl Flat {
    pub fn new(pieces: Vec<Piece>) -> Result<Self> {
        let (mut files, mut ends, mut end) = (Vec::new(), Vec::new(), 0_u64);
        for piece in pieces.into_iter().filter(|piece| piece.length > 0) {
            end = end.saturating_add(piece.length);
            if end > MAX_DISK {
                return Err(unsupported("a size of more than 64 TiB"));
            }
            ends.push((end, piece.storage.is_some().then_some(files.len())));
            files.extend(piece.storage);
        }
        Ok(Self { files, ends })
    }

    /// All of a file.
    pub fn whole(storage: Storage) -> Result<Self> {
        Self::new(vec![Piece { length: storage.length(), storage: Some(storage) }])
    }
}

impl Map for Flat {
    fn size(&self) -> u64 {
        self.ends.last().map_or(0, |(end, _)| *end)
    }

    fn files(&self) -> &[Storage] {
        &self.files
    }

    fn grain(&self, _: usize) -> Option<u64> {
        None
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let number = self.ends.partition_point(|(end, _)| *end <= at);
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, file) = self.ends.get(number).copied().unwrap_or((at, None));
        let place = file.map_or(Place::Zero, |file| Place::Plain { file, at: at - start });
        Ok(Run { length: end - at, place })
    }
}
