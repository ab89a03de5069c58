//! A FUSE server that shows one folder of the host (the protocol of Linux's `include/uapi/linux/fuse.h`, version 7.31
//! and newer).
//!
//! ```text
//!   message ──► server ──► name, inode, handle: what the guest's words stand for
//!                  └─────► attr, entry, dir, file, lock, xattr: one file a group of operations
//! ```
//!
//! # Confinement
//! The guest names files by inode numbers that were handed to it, and by single path components below them. Each known
//! inode is an `O_PATH` descriptor; a component is looked up by `openat2` below its directory's, without following a
//! symbolic link, and may be neither `..` nor contain a slash. So no race with a rename or a symbolic link on the host
//! can lead outside: there is no path to resolve a second time. Files are opened anew through `/proc/self/fd` after
//! their type is known; devices, sockets and pipes never are.
//!
//! # Caching
//! What the guest knows of a name or an inode holds for [`VALIDITY`], a tenth of a second: long enough that the walk of
//! one `git status` asks for each directory once and not for each file in it, and short enough that an edit on the host
//! is seen by the next command. Pages are kept while a file is open and dropped where its size or time of modification
//! has changed (`FUSE_AUTO_INVAL_DATA`) or it is opened again. That a name does not exist is never remembered. Written
//! data goes to the host at once (no write-back cache): two sides that cache writes to one file would lose some.
//!
//! # What changes on the host
//! A guest's kernel raises inotify events for what is done in the guest. What the host does is seen by a
//! [`Watch`](watch::Watch), told to the guest by whatever way its owner has, and raised there by setting the time
//! [`RAISING`] on the file, which changes nothing but lets the guest's kernel tell all who watch it.
//!
//! # Owners
//! See [`identity`].

mod attr;
mod dir;
mod entry;
mod file;
mod handle;
pub mod identity;
mod init;
mod inode;
mod lock;
mod name;
mod root;
mod server;
pub mod watch;
mod wire;
mod xattr;

use std::time::Duration;

pub use root::Root;
pub use server::{Answer, Finished, Limits, Server, Share};

/// How long the guest may rely on what it was told of a name or an inode.
pub const VALIDITY: Duration = Duration::from_millis(100);

/// Seconds since 1970 of a time of modification that the server takes, and sets nothing; folders that may only be read
/// take it too. Who sets it alone has Linux raise `IN_MODIFY` (with the time of access, `IN_ATTRIB`), and what the guest
/// knows of the file is looked at anew. A time in the year 2165 that nobody has a use for.
pub const RAISING: u64 = 6_181_311_329;

#[cfg(test)]
mod tests;
