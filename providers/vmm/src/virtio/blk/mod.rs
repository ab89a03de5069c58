//! The block device (virtio 1.2, section 5.2): a disk image behind up to four queues.
//!
//! All queues of a device are served by one thread, in which each request is a future of its own: on the few
//! processors that a developer's machine spares for it, a second thread would mostly wait for the first.

mod device;
mod request;
mod worker;

pub use device::{Blk, BlkError};

/// Parsing of a request, open to fuzzing.
#[doc(hidden)]
pub mod fuzzing {
    pub use super::worker::fuzz_queue;
}

#[cfg(test)]
mod tests;
