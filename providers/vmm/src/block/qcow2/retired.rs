//! Clusters that are not used any more, until they may be used again.
//!
//! A request that looked up such a cluster before it was retired may still read or write it. Each request therefore
//! holds a [`Pass`]; what was retired becomes free when the flush that made it known has ended, and all passes from
//! before that have been given back.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// A request's right to use what it has looked up.
pub(super) type Pass = Arc<()>;

#[derive(Default)]
pub(super) struct Retired {
    current: Arc<()>,
    /// Not known on disk yet; offsets of host clusters, one entry a reference.
    fresh: Vec<u64>,
    /// Known on disk, with the passes that must be back first; in their order.
    known: VecDeque<(Weak<()>, Vec<u64>)>,
}

impl Retired {
    pub fn pass(&self) -> Pass {
        self.current.clone()
    }

    /// Notes that one reference to the host cluster at `offset` is gone.
    pub fn retire(&mut self, offset: u64) {
        self.fresh.push(offset);
    }

    /// Whether a flush would bring something.
    pub fn any(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Takes what a flush that begins now makes known.
    pub fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fresh)
    }

    /// That flush has failed.
    pub fn put_back(&mut self, offsets: Vec<u64>) {
        self.fresh.extend(offsets);
    }

    /// That flush has succeeded.
    pub fn know(&mut self, offsets: Vec<u64>) {
        if !offsets.is_empty() {
            let old = std::mem::take(&mut self.current);
            self.known.push_back((Arc::downgrade(&old), offsets));
        }
    }

    /// What may be used again by now.
    pub fn over(&mut self) -> Vec<u64> {
        let mut over = Vec::new();
        while let Some((passes, _)) = self.known.front() {
            if passes.strong_count() > 0 {
                break;
            }
            over.extend(self.known.pop_front().into_iter().flat_map(|(_, offsets)| offsets));
        }
        over
    }
}
