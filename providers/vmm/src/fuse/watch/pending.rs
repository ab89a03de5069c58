//! Changes that are not told yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use super::{Changes, Kind};
use crate::fuse::VALIDITY;

#[derive(Debug)]
struct One {
    kind: Kind,
    /// When it is to be told.
    due: Instant,
    /// The last time it was seen.
    last: Instant,
}

/// Changed paths, each once.
#[derive(Debug)]
pub struct Pending {
    paths: BTreeMap<PathBuf, One>,
    most: usize,
    lost: Option<Instant>,
}

impl Pending {
    pub fn new(most: usize) -> Self {
        Self { paths: BTreeMap::new(), most, lost: None }
    }

    pub fn add(&mut self, path: PathBuf, kind: Kind, now: Instant) {
        if let Some(one) = self.paths.get_mut(&path) {
            // Who has not heard that it was made hears that first.
            if (one.kind, kind) != (Kind::Created, Kind::Modified) {
                one.kind = kind;
            }
            one.last = now;
        } else if self.paths.len() < self.most {
            self.paths.insert(path, One { kind, due: now + VALIDITY, last: now });
        } else {
            self.lose(now);
        }
    }

    pub fn lose(&mut self, now: Instant) {
        self.lost.get_or_insert(now + VALIDITY);
    }

    /// When there is something to be told next.
    pub fn due(&self) -> Option<Instant> {
        self.paths.values().map(|one| one.due).chain(self.lost).min()
    }

    /// What is to be told at `now`. A path that has changed again is told now, and once more when that is as old.
    pub fn take(&mut self, now: Instant) -> Changes {
        let mut changes = Changes { paths: Vec::new(), lost: self.lost.is_some_and(|due| due <= now) };
        if changes.lost {
            self.lost = None;
        }
        self.paths.retain(|path, one| {
            if one.due > now {
                return true;
            }
            changes.paths.push((path.clone(), one.kind));
            let again = one.last + VALIDITY;
            let keep = again > now;
            one.due = again;
            if keep && one.kind == Kind::Created {
                one.kind = Kind::Modified;
            }
            keep
        });
        changes
    }
}
