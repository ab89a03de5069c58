//! VMware's VMDK: one file, or a descriptor and the files it names.

pub mod descriptor;
mod sparse;

use super::mapped::{Map, Mapped, Place, Run};
use super::raw::{Flat, Piece};
use super::{Siblings, plain_name};
use crate::error::{corrupt, unsupported};
use crate::{ImageError, MAX_DISK, ReadImage, Result, Storage};
use descriptor::{Descriptor, Kind};
use sparse::Sparse;

/// Opens a disk; `siblings` finds the files that its descriptor names.
pub fn open(storage: Storage, siblings: Siblings<'_>) -> Result<Box<dyn ReadImage>> {
    let start = storage.bytes(0, 4)?;
    if start == b"COWD" || start == b"\xbe\xba\xfe\xca" {
        return Err(unsupported("the sparse format of ESX"));
    }
    if start != sparse::MAGIC {
        if storage.length() > descriptor::MAX as u64 {
            return Err(corrupt("its descriptor is too long"));
        }
        let text = storage.bytes(0, descriptor::MAX)?;
        return described(&Descriptor::parse(&text)?, siblings);
    }
    let sparse = Sparse::open(storage)?;
    // QEMU leaves an empty one in the pieces of a split disk.
    let found = sparse.descriptor().map(Descriptor::parse).transpose()?.unwrap_or_default();
    if found == Descriptor::default() {
        return Err(unsupported("a descriptor in another file: this is one piece of a disk"));
    }
    Ok(Box::new(Mapped::new(sparse)))
}

fn described(found: &Descriptor, siblings: Siblings<'_>) -> Result<Box<dyn ReadImage>> {
    if found.extents.is_empty() {
        return Err(corrupt("its descriptor names no files"));
    }
    let find = |name: &str| {
        let missing = || ImageError::File { name: name.to_owned(), why: "which is not there" };
        siblings(plain_name(name)?)?.ok_or_else(missing)
    };
    let mut pieces = Vec::new();
    let mut sparse = Vec::new();
    for extent in &found.extents {
        let length = extent.length;
        let flat = |storage| Piece { length, storage };
        match &extent.kind {
            Kind::Zero => pieces.push(flat(None)),
            Kind::Flat { file, at } => {
                let storage = find(file)?;
                if storage.length().saturating_sub(*at) < length {
                    return Err(ImageError::Truncated(format!("its file `{file}` is too short")));
                }
                pieces.push(flat(Some(storage.part(*at, length))));
            }
            Kind::Sparse { file } => sparse.push((length, Sparse::open(find(file)?)?)),
        }
    }
    match (pieces.is_empty(), sparse.is_empty()) {
        (_, true) => Ok(Box::new(Mapped::new(Flat::new(pieces)?))),
        (true, _) => Ok(Box::new(Mapped::new(Several::new(sparse)?))),
        _ => Err(unsupported("flat and sparse files in one disk")),
    }
}

/// Sparse files behind each other.
struct Several {
    parts: Vec<Sparse>,
    ends: Vec<u64>,
    files: Vec<Storage>,
}

impl Several {
    fn new(parts: Vec<(u64, Sparse)>) -> Result<Self> {
        let (mut ends, mut files, mut end) = (Vec::new(), Vec::new(), 0_u64);
        for (length, part) in &parts {
            end = end.saturating_add(*length);
            if part.size() < *length || *length == 0 || end > MAX_DISK {
                return Err(corrupt("its descriptor and its files differ in size"));
            }
            ends.push(end);
            files.extend_from_slice(part.files());
        }
        Ok(Self { parts: parts.into_iter().map(|(_, part)| part).collect(), ends, files })
    }
}

impl Map for Several {
    fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn files(&self) -> &[Storage] {
        &self.files
    }

    fn grain(&self) -> Option<u64> {
        self.parts.iter().filter_map(Map::grain).min()
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let number = self.ends.partition_point(|end| *end <= at);
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        let part = self.parts.get(number).ok_or_else(|| corrupt("its files end too early"))?;
        let run = part.locate(at - start)?;
        let place = match run.place {
            Place::Plain { at, .. } => Place::Plain { file: number, at },
            Place::Packed(packed) => Place::Packed(super::mapped::Packed { file: number, ..packed }),
            other => other,
        };
        Ok(Run { length: run.length.min(self.ends[number] - at), place })
    }

    fn unpack(&self, packed: &super::mapped::Packed, into: &mut [u8]) -> Result<()> {
        self.parts[packed.file].unpack(packed, into)
    }
}
