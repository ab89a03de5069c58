//! How a machine ends.

/// Why a machine runs no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest asked to be reset: whoever runs the machine builds it again.
    Reset,
    /// The guest's kernel gave up, and said so.
    Panicked,
    /// It was ended from outside.
    Killed,
    /// The monitor or KVM could not go on.
    Failed(String),
}
