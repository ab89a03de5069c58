//! How a transfer tells what it is doing.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Receives what a transfer has to tell. Implemented by whoever shows it.
pub trait Progress: Send + Sync {
    /// The transfer begins, or begins anew: `total` bytes in all where that is known, of which `have` came earlier.
    fn begin(&self, total: Option<u64>, have: u64);
    /// So many bytes more came.
    fn came(&self, bytes: u64);
    /// Something the user should know although the transfer goes on.
    fn note(&self, text: &str);
    /// What comes is written to `part`, whose bytes may be read while more come: those that [`Progress::there`] tells of, and
    /// only until the transfer begins anew.
    fn grows(&self, _part: &Arc<File>) {}
    /// These bytes of the file came, now or earlier.
    fn there(&self, _bytes: Range<u64>) {}
}

/// A progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: Option<u64>, _: u64) {}
    fn came(&self, _: u64) {}
    fn note(&self, _: &str) {}
}
