//! Disks in several files behind each other, each with a map of its own.

use super::mapped::{Map, Packed, Place, Run};
use crate::error::{corrupt, unsupported};
use crate::{MAX_DISK, Result, Storage};

/// A piece of the disk.
struct Part {
    map: Box<dyn Map>,
    /// Where it ends on the disk, bytes.
    end: u64,
    /// Which of all files its first one is.
    first: usize,
}

/// Pieces behind each other.
pub struct Several {
    parts: Vec<Part>,
    files: Vec<Storage>,
}

impl Several {
    /// The first so many bytes of each.
    pub fn new(pieces: Vec<(u64, Box<dyn Map>)>) -> Result<Self> {
        let (mut parts, mut files, mut end) = (Vec::new(), Vec::new(), 0_u64);
        for (length, map) in pieces {
            end = end.saturating_add(length);
            if end > MAX_DISK {
                return Err(unsupported("a size of more than 64 TiB"));
            }
            if map.size() < length || length == 0 {
                return Err(corrupt("its description and its files differ in size"));
            }
            let first = files.len();
            files.extend_from_slice(map.files());
            parts.push(Part { map, end, first });
        }
        Ok(Self { parts, files })
    }

    /// The piece with a file, by the number it has among all.
    fn of(&self, file: usize) -> Result<&Part> {
        let behind = self.parts.partition_point(|part| part.first <= file);
        let part = behind.checked_sub(1).and_then(|number| self.parts.get(number));
        part.ok_or_else(|| corrupt("it leads to a file that it does not have"))
    }
}

impl Map for Several {
    fn size(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    fn files(&self) -> &[Storage] {
        &self.files
    }

    fn grain(&self, file: usize) -> Option<u64> {
        self.of(file).ok().and_then(|part| part.map.grain(file - part.first))
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let number = self.parts.partition_point(|part| part.end <= at);
        let start = number.checked_sub(1).map_or(0, |before| self.parts[before].end);
        let part = self.parts.get(number).ok_or_else(|| corrupt("its files end too early"))?;
        let run = part.map.locate(at - start)?;
        let place = match run.place {
            Place::Plain { file, at } => Place::Plain { file: part.first + file, at },
            Place::Packed(packed) => Place::Packed(Packed { file: part.first + packed.file, ..packed }),
            other => other,
        };
        Ok(Run { length: run.length.min(part.end - at), place })
    }

    fn unpack(&self, packed: &Packed, into: &mut [u8]) -> Result<()> {
        let part = self.of(packed.file)?;
        part.map.unpack(&Packed { file: packed.file - part.first, ..*packed }, into)
    }
}
