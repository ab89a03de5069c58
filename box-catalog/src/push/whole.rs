//! A file that travels as a whole.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::{BoxError, Cancel, Digest, Progress};

/// What a file comes to.
pub(super) struct Whole {
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub digest: Digest,
}

/// Opens the file at `path` and begins to read it.
pub(super) fn open(path: &Path, progress: &dyn Progress) -> Result<File, BoxError> {
    let failed = |error| BoxError::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(BoxError::FileMissing(path.to_owned()));
    }
    progress.phase("reading", Some(metadata.len()));
    Ok(file)
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Whole, BoxError> {
    let failed = |error| BoxError::io("read", path, error);
    let mut file = open(path, progress)?;
    let (mut hash, mut piece, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok(Whole { size, digest: Digest::from_bytes(hash.finalize().into()) });
        }
        hash.update(&piece[..count]);
        size += count as u64;
        progress.advance(count as u64);
    }
}
