//! What can be done with a repository, whoever asks. One file for each kind of thing in it.

mod boxes;
mod chunks;
mod files;
mod gc;
mod ingest;
mod leases;
mod manifest;
mod mirrored;
mod read;
mod tokens;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub use gc::{Collected, Retention};
pub use manifest::{FileManifest, InvalidManifest};
pub use tokens::{Access, Identity, Scopes, TokenInfo, secret_digest};

pub(crate) use boxes::no_box;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use chunks::unpack;
pub(crate) use files::Content;
pub(crate) use read::FileReader;

use crate::digest::Sha256;
use crate::storage::Storage;
use leases::Leases;

/// How many manifests are kept in memory.
const CACHED: usize = 16;

/// A repository. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Storage,
    leases: Leases,
    /// Manifests that were asked for last, newest first.
    recent: Mutex<VecDeque<(Sha256, Arc<FileManifest>)>>,
}

impl Repository {
    /// That in `storage`.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self(Arc::new(Inner { storage, leases: Leases::default(), recent: Mutex::default() }))
    }

    fn storage(&self) -> &Storage {
        &self.0.storage
    }

    fn recent(&self, sha256: &Sha256) -> Option<Arc<FileManifest>> {
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(there, _)| there == sha256)?;
        let found = recent.remove(at)?;
        recent.push_front(found.clone());
        Some(found.1)
    }

    fn remember(&self, sha256: Sha256, manifest: Arc<FileManifest>) {
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front((sha256, manifest));
        recent.truncate(CACHED);
    }

    fn forget(&self, sha256: &Sha256) {
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(there, _)| there != sha256);
    }
}
