//! What a kernel is made into before it is kept.

/// Unpacks a kernel, given as its distribution packages it, into what the monitor starts soonest; `None` where it is
/// best kept as it is. Whoever knows the monitor gives it: the store does not.
pub type KernelUnpacker = fn(&[u8]) -> Option<Vec<u8>>;
