//! Opening what lies at a path.

use std::path::Path;

use crate::read::{Backing, beside, open_chain, open_with};
use crate::{Format, ReadImage, Result, Storage};

/// Opens the disk image at `path`, whose format is seen by its content. Files that a VMDK's descriptor names are looked for
/// beside it.
///
/// # Errors
/// All of [`crate::ImageError`] but those of writing.
pub fn open(path: &Path, backing: Backing) -> Result<(Format, Box<dyn ReadImage>)> {
    match backing {
        Backing::Followed => open_chain(path, 0),
        Backing::Refused => open_with(Storage::open(path)?, &|name| beside(path, name)),
    }
}
