//! Looking whether all is well.

use std::sync::{Mutex, PoisonError};

use super::{ChunkStore, pool};
use crate::{Digest, Error};

/// A chunk that is not what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The chunk.
    pub digest: Digest,
    /// What is wrong with it.
    pub what: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fsck {
    /// How many chunks were looked at.
    pub chunks: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Those that are not what they are called, in order.
    pub damaged: Vec<Damage>,
}

impl ChunkStore {
    /// Reads each chunk and compares it with what it is called, on all cores.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`] where files cannot be read at all.
    pub fn fsck(
        &self,
        progress: &(dyn Fn(u64) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Fsck, Error> {
        let chunks = self.list()?;
        let damaged = Mutex::new(Vec::new());
        pool::for_each(chunks.len(), |index| {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let (digest, size) = chunks[index];
            progress(size);
            let what = match self.get(&digest) {
                // It was collected since it was listed.
                Ok(_) | Err(Error::Missing(_)) => return Ok(()),
                Err(Error::Damaged { what, .. }) => what,
                // A disk that cannot be read any more is damage to what lies there.
                Err(Error::Io { source, .. }) => source.to_string(),
                Err(error) => return Err(error),
            };
            damaged.lock().unwrap_or_else(PoisonError::into_inner).push(Damage { digest, what });
            Ok(())
        })?;
        let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        damaged.sort_by_key(|damage| damage.digest);
        Ok(Fsck { chunks: chunks.len() as u64, bytes: chunks.iter().map(|(_, size)| size).sum(), damaged })
    }

    /// Takes a chunk out of the store that is damaged, so that adding its content again brings it back whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard(&self, digest: &Digest) -> Result<(), Error> {
        super::gc::delete(&self.path(digest))
    }
}
