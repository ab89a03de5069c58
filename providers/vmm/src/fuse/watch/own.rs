//! What the guest has changed itself, lately. It is told to nobody: the guest's kernel has raised it already.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after a change by the guest one that is seen on the host is taken for the same. What the host does to the
/// same file meanwhile is not told.
const SAME: Duration = Duration::from_millis(300);
/// How many are remembered; more than these within [`SAME`] are told as if they were the host's.
const MOST: usize = 8192;

/// An inode: its file system and its number there.
pub type Inode = ((u32, u32), u64);

#[derive(Debug, PartialEq, Eq, Hash)]
enum What {
    Inode(Inode),
    Entry(Inode, Vec<u8>),
}

/// The guest's own changes.
#[derive(Debug, Default)]
pub struct Own {
    /// Whether anybody asks.
    enabled: AtomicBool,
    lately: Mutex<HashMap<What, Instant>>,
}

impl Own {
    pub(super) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// The guest is about to change a file.
    pub(in crate::fuse) fn inode(&self, inode: Option<Inode>) {
        if let Some(inode) = inode {
            self.note(|| What::Inode(inode));
        }
    }

    /// The guest is about to change what a name in `folder` stands for.
    pub(in crate::fuse) fn entry(&self, folder: Option<Inode>, name: &[u8]) {
        if let Some(folder) = folder {
            self.note(|| What::Entry(folder, name.to_vec()));
        }
    }

    fn note(&self, what: impl FnOnce() -> What) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= MOST {
            lately.retain(|_, when| now.duration_since(*when) < SAME);
        }
        if lately.len() < MOST {
            lately.insert(what(), now);
        }
    }

    /// Whether what is seen at `now` is the guest's doing.
    pub(super) fn is_own(
        &self,
        folder: Option<Inode>,
        name: &[u8],
        inode: Option<Inode>,
        now: Instant,
    ) -> bool {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            |what: &What| lately.get(what).is_some_and(|when| now.saturating_duration_since(*when) < SAME);
        inode.is_some_and(|inode| recent(&What::Inode(inode)))
            || folder.is_some_and(|folder| recent(&What::Entry(folder, name.to_vec())))
    }
}
