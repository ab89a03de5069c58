//! What a mirror counts since its start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::How;

/// What a mirror counts.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    failures: AtomicU64,
    pub(super) bytes: Arc<AtomicU64>,
}

impl Figures {
    pub(super) fn document(&self, how: &How) {
        let counter = match how {
            How::Hit => &self.hits,
            How::Miss => &self.misses,
            How::Stale(_) => &self.stale,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures: name, what they tell, and the value.
    pub(crate) fn all(&self) -> [(&'static str, &'static str, &AtomicU64); 5] {
        [
            ("posada_mirror_hits_total", "Documents and files that were here.", &self.hits),
            ("posada_mirror_misses_total", "Documents and files that were not.", &self.misses),
            (
                "posada_mirror_stale_total",
                "Documents given as they were, as upstream could not be asked.",
                &self.stale,
            ),
            (
                "posada_mirror_failures_total",
                "Documents and files that did not come from upstream.",
                &self.failures,
            ),
            ("posada_mirror_upstream_bytes_total", "Bytes of files that came from upstream.", &self.bytes),
        ]
    }
}
