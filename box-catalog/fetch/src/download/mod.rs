//! Large files: in several ranges at once, gone on with where they were broken off.
//!
//! Each URL has a directory of its own (a [`Slot`]) in a cache that all processes of one user share:
//! ```text
//! lock           held (flock) by the process that fetches it
//! part           the file, as far as it came
//! journal.json   which blocks of it came, and by what the server tells versions of the file apart
//! ```
//! A block that is in the journal is in `part`; after a reboot, only those count that were on the disk before. When all
//! of it is there and has the checksum it was to have, `part` becomes `whole`.

mod fetch;
mod follow;
mod journal;
mod slot;

use std::path::PathBuf;

use url::Url;

use crate::Checksum;

pub use slot::Slot;

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it is.
    pub url: Url,
    /// What it is to come to.
    pub checksum: Option<Checksum>,
    /// Bytes that it has at most.
    pub limit: u64,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it lies, until its slot is cleared.
    pub path: PathBuf,
    /// Its size, bytes.
    pub size: u64,
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_journal(bytes: &[u8]) {
    let _ = journal::Journal::parse(bytes);
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fetch::content_range;
