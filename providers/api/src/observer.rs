//! How a provider tells what it is doing while it does it.

/// Receives what a long operation has to tell. Implemented by whoever shows it; providers never print.
pub trait Observer: Send + Sync {
    /// A new phase has begun: a short present participle phrase, `starting systemd`.
    fn phase(&self, text: &str);
    /// Something the user should know although the operation goes on (a limit that cannot be enforced).
    fn warn(&self, text: &str);
    /// A line that the machine's console printed.
    fn console(&self, line: &str);
}

/// An observer that listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn phase(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn console(&self, _: &str) {}
}
