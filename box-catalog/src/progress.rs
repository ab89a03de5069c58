//! How long work tells what it is doing.

/// Receives what long work has to tell. Implemented by whoever shows it; this crate never prints.
pub trait Progress: Send + Sync {
    /// A new phase has begun: a short present participle phrase, `unpacking`. `total` is how many bytes it will
    /// go through, where that is known.
    fn phase(&self, text: &str, total: Option<u64>);
    /// The phase has gone through this many more bytes.
    fn advance(&self, bytes: u64);
    /// The phase goes on where an earlier one ended: this many bytes need no work any more.
    fn resume(&self, bytes: u64) {
        self.advance(bytes);
    }
    /// Something the user should know although the work goes on.
    fn warn(&self, text: &str);
}

/// A progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn phase(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}
