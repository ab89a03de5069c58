//! Deleting what nobody needs.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use super::ChunkStore;
use crate::{Digest, Error};

/// What was deleted, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// How many chunks.
    pub chunks: u64,
    /// Bytes they took.
    pub bytes: u64,
}

impl ChunkStore {
    /// Deletes the chunks that `live` does not name, or with `dry_run` only counts them. Waits for those who add, and
    /// they wait for it; `live` is asked when nobody adds, so that it sees all that was added. An error of its own
    /// ends it, and nothing is deleted.
    ///
    /// # Errors
    /// That of `live`; [`Error::Io`] as one.
    pub fn gc<E: From<Error>>(
        &self,
        dry_run: bool,
        live: impl FnOnce() -> Result<HashSet<Digest>, E>,
    ) -> Result<Collected, E> {
        let (path, lock) = self.open_lock("lock")?;
        lock.lock().map_err(|error| Error::io("lock", path, error))?;
        let live = live()?;
        let mut collected = Collected::default();
        for (digest, size) in self.list()? {
            if live.contains(&digest) {
                continue;
            }
            if !dry_run {
                delete(&self.path(&digest))?;
            }
            collected.chunks += 1;
            collected.bytes += size;
        }
        Ok(collected)
    }
}

pub(super) fn delete(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}
