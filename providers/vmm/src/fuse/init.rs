//! What server and guest agree on before anything else.

use rustix::io::Errno;

use super::server::{Outcome, Server};
use super::wire::{Args, Body};

/// The protocol's major version.
const MAJOR: u32 = 7;
/// The newest minor version that is spoken.
const NEWEST: u32 = 38;
/// The oldest: the first that Linux spoke over virtio.
const OLDEST: u32 = 31;
/// The most that one WRITE or READ carries, bytes.
const LARGEST: u32 = 1 << 20;
/// The same in pages.
const LARGEST_PAGES: u16 = 256;
/// How many requests that nobody waits for, such as read-ahead, may be on their way, and when there are many.
const BACKGROUND: (u16, u16) = (64, 48);

/// Names of the flags that are agreed to (`FUSE_…` of `struct fuse_init_in`).
mod flag {
    pub const ASYNC_READ: u32 = 1;
    pub const POSIX_LOCKS: u32 = 1 << 1;
    pub const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub const BIG_WRITES: u32 = 1 << 5;
    pub const FLOCK_LOCKS: u32 = 1 << 10;
    pub const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub const ASYNC_DIO: u32 = 1 << 15;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const MAX_PAGES: u32 = 1 << 22;
    pub const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

/// What is agreed to where the guest offers it. That set-user-id bits end when a file is written is left to the host
/// (`HANDLE_KILLPRIV_V2`), as the guest would ask for an attribute at each write otherwise.
const WANTED: u32 = flag::ASYNC_READ
    | flag::POSIX_LOCKS
    | flag::ATOMIC_O_TRUNC
    | flag::BIG_WRITES
    | flag::FLOCK_LOCKS
    | flag::AUTO_INVAL_DATA
    | flag::DO_READDIRPLUS
    | flag::READDIRPLUS_AUTO
    | flag::ASYNC_DIO
    | flag::PARALLEL_DIROPS
    | flag::MAX_PAGES
    | flag::HANDLE_KILLPRIV_V2;

impl Server {
    /// INIT: the guest has mounted the folder.
    pub(super) fn init(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (major, minor, read_ahead, flags) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        if major < MAJOR || (major == MAJOR && minor < OLDEST) {
            return Err(Errno::PROTO);
        }
        self.clear();
        let mut body = Body::default();
        body.u32(MAJOR).u32(NEWEST);
        if major == MAJOR {
            body.u32(read_ahead).u32(flags & WANTED);
            body.u16(BACKGROUND.0).u16(BACKGROUND.1);
            // Times are told to the nanosecond.
            body.u32(LARGEST).u32(1).u16(LARGEST_PAGES);
        }
        // A guest that speaks a newer major version reads ours, and asks again in it.
        body.pad(64);
        Ok(body.into())
    }
}
