//! How a transfer tells what it is doing.

/// Receives what a transfer has to tell. Implemented by whoever shows it.
pub trait Progress: Send + Sync {
    /// The transfer begins, or begins anew: `total` bytes in all where that is known, of which `have` came earlier.
    fn begin(&self, total: Option<u64>, have: u64);
    /// So many bytes more came.
    fn came(&self, bytes: u64);
    /// Something the user should know although the transfer goes on.
    fn note(&self, text: &str);
}

/// A progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: Option<u64>, _: u64) {}
    fn came(&self, _: u64) {}
    fn note(&self, _: &str) {}
}
