//! Disk images: raw files and qcow2 with its chain of backing files, read and written without copies between guest
//! memory and the page cache.
//!
//! ```text
//!   image ──► raw ─────────────┐
//!     │                        ├──► engine (io_uring, or a few threads where that is refused)
//!     └─────► qcow2 ──backing──┘       completions wake
//!                                      tasks (one future a request, all in one thread)
//! ```
//! Everything of one image happens in one thread: requests are futures that wait for the engine, so that many are in
//! flight, and metadata needs no more than that between two waits nobody else looks at it. The image outlives the
//! thread, as its device does when the driver resets it.

mod buffers;
mod engine;
mod fault;
mod image;
mod lock;
mod pool;
mod qcow2;
mod raw;
mod ring;
mod tasks;

pub use buffers::Buffers;
pub use engine::Engine;
pub use fault::{BlockFault, FaultSink, OpenError};
pub use image::{Image, ImageOptions};
pub use tasks::{Tasks, block_on};

/// Reads a qcow2 header, whatever it is.
#[doc(hidden)]
pub fn fuzz_qcow2_header(bytes: &[u8]) {
    qcow2::fuzz_header(bytes);
}

#[cfg(test)]
mod tests;
