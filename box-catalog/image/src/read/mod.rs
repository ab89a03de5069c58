//! Opening images.

mod blocks;
#[cfg(test)]
#[path = "../../tests/qemu/log_entry.rs"]
pub(crate) mod log_entry;
mod mapped;
mod parallels;
mod qcow2;
mod raw;
mod several;
mod unpack;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::path::Path;

use crate::pages::Cache;
use crate::probe::{Format, probe_storage};
use crate::{ImageError, ReadImage, Result, Storage};
pub(crate) use mapped::{Map, Mapped, Place, Run};
pub(crate) use parallels::open as parallels_disk;
pub(crate) use raw::Flat;
pub(crate) use several::Several;

pub use qcow2::is_special;
pub(crate) use vhdx::guid as vhdx_guid;

/// Longest chain of backing files.
const MAX_CHAIN: usize = 16;

/// What is done where an image stands on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// It is refused: for images from anywhere, which could name any file of the host.
    Refused,
    /// The file it names is opened, and the file that one names.
    Followed,
}

/// Finds a file that is given together with an image, by the plain name that the image says.
pub(crate) type Siblings<'a> = &'a dyn Fn(&str) -> Result<Option<Storage>>;

/// Opens a disk image that stands in one file and on no other.
///
/// # Errors
/// All of [`ImageError`] but those of writing.
pub fn open_storage(storage: Storage) -> Result<(Format, Box<dyn ReadImage>)> {
    open_with(storage, &|_| Ok(None))
}

/// The same, where other files may belong to it.
pub(crate) fn open_with(storage: Storage, siblings: Siblings<'_>) -> Result<(Format, Box<dyn ReadImage>)> {
    let format = probe_storage(&storage)?;
    let image: Box<dyn ReadImage> = match format {
        Format::Qcow2 => {
            let map = qcow2::Qcow2::open(storage)?;
            if let Some(name) = map.backing() {
                return Err(ImageError::Differences(format!(", `{name}`")));
            }
            Box::new(Mapped::new(map))
        }
        Format::Vmdk => vmdk::open(storage, siblings)?,
        Format::Vdi => Box::new(Mapped::new(vdi::open(storage)?)),
        Format::Vhd => vhd::open(storage)?,
        Format::Vhdx => Box::new(Mapped::new(vhdx::open(storage)?)),
        Format::Parallels => Box::new(Mapped::new(parallels::open(storage, &Cache::default())?)),
        Format::Raw | Format::Ova | Format::Xva => Box::new(Mapped::new(raw::Flat::whole(storage)?)),
    };
    Ok((format, image))
}

/// Opens the qcow2 image at `path` with those that it stands on, if that is what `path` holds.
pub(crate) fn open_chain(path: &Path, depth: usize) -> Result<(Format, Box<dyn ReadImage>)> {
    let storage = Storage::open(path)?;
    if probe_storage(&storage)? != Format::Qcow2 {
        return open_with(storage, &|name| beside(path, name));
    }
    let map = qcow2::Qcow2::open(storage)?;
    let below = match map.backing() {
        None => None,
        Some(_) if depth == MAX_CHAIN => {
            return Err(ImageError::Corrupt("it stands on a chain of images that never ends".to_owned()));
        }
        Some(name) => {
            let directory = path.parent().unwrap_or(Path::new("."));
            Some(open_chain(&directory.join(name), depth + 1)?.1)
        }
    };
    Ok((Format::Qcow2, Box::new(Mapped::over(map, below))))
}

/// A file in the directory of `path`.
pub(crate) fn beside(path: &Path, name: &str) -> Result<Option<Storage>> {
    let there = path.parent().unwrap_or(Path::new(".")).join(name);
    // What a link there leads to could be any file of the host.
    if fs_err::symlink_metadata(&there).is_ok_and(|there| there.is_file()) {
        Storage::open(&there).map(Some)
    } else {
        Ok(None)
    }
}

/// A name without a directory: what an image may call another file by.
pub(crate) fn plain_name(name: &str) -> Result<&str> {
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']);
    let why = "which lies elsewhere";
    if bad { Err(ImageError::File { name: name.to_owned(), why }) } else { Ok(name) }
}
