//! VMware's VMDK: one file, or a descriptor and the files it names.

pub mod descriptor;
mod sparse;

use super::mapped::{Map, Mapped};
use super::raw::{Flat, Piece};
use super::several::Several;
use super::{Siblings, plain_name};
use crate::error::{corrupt, unsupported};
use crate::pages::Cache;
use crate::{ImageError, ReadImage, Result, Storage};
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
    let sparse = Sparse::open(storage, &Cache::default())?;
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
    let mut flat: Vec<Piece> = Vec::new();
    let mut pieces: Vec<(u64, Box<dyn Map>)> = Vec::new();
    let mut taken = Vec::new();
    let cache = Cache::default();
    for extent in &found.extents {
        let length = extent.length;
        let storage = match &extent.kind {
            Kind::Zero => None,
            Kind::Flat { file, at } => {
                let storage = find(file)?;
                if storage.length().saturating_sub(*at) < length {
                    return Err(ImageError::Truncated(format!("its file `{file}` is too short")));
                }
                taken.push((file, *at, *at + length));
                Some(storage.part(*at, length))
            }
            Kind::Sparse { file } => {
                taken.push((file, 0, u64::MAX));
                pieces.push((length, Box::new(Sparse::open(find(file)?, &cache)?)));
                continue;
            }
        };
        let piece = Piece { length, storage };
        pieces.push((length, Box::new(Flat::new(vec![piece.clone()])?)));
        flat.push(piece);
    }
    taken.sort_unstable();
    if let Some(pair) = taken.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
        return Err(corrupt(format!(
            "two places of the disk lead to the same bytes of its file `{}`",
            pair[0].0
        )));
    }
    if flat.len() == pieces.len() {
        return Ok(Box::new(Mapped::new(Flat::new(flat)?)));
    }
    Ok(Box::new(Mapped::new(Several::new(pieces)?)))
}
