//! The part of the store that touches a tree's files. It runs in a process of its own, started from our own
//! binary as root of the id map, as an ordinary user cannot make or delete files of other owners.

mod client;
mod entry;
mod protocol;

pub use entry::worker_entry;

pub(crate) use client::{Failure, check, delete, disk_of_tree, dying_with_us, pack, tree_of_disk, unpack};
pub(crate) use protocol::DiskOfTree;

/// The hidden word by which our binary becomes [`worker_entry`].
pub const WORKER: &str = "__box-worker";
