//! Open files: reading, writing, and what else is done with them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, seek};
use rustix::io::Errno;

use super::handle::Handle;
use super::server::{Outcome, Server};
use super::wire::{Args, Body, REPLY_HEADER, WRITE_ARGS};
use crate::virtio::buffers::Buffers;

/// `FUSE_OPEN_KILL_SUIDGID`: truncating at open ends set-user-id.
const OPEN_KILL_SUIDGID: u32 = 1;
/// `FUSE_WRITE_KILL_SUIDGID`: this write does.
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `FUSE_FSYNC_FDATASYNC`: the data is enough.
const DATA_ONLY: u32 = 1;
/// The most that is copied at once, bytes: other requests wait meanwhile. The guest asks again for the rest.
const COPY_AT_ONCE: u64 = 64 << 20;

/// Of a guest's open flags those that mean something to the host's file. `O_DIRECT` does not: the guest's buffers need
/// not be aligned as the host's disk wants them, and the guest has gone round its own cache already.
pub(super) fn kept(flags: u32) -> OFlags {
    let kept = OFlags::ACCMODE | OFlags::APPEND | OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC;
    OFlags::from_bits_retain(flags) & kept
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

impl Server {
    pub(super) fn open_file(&self, number: u64, flags: u32, open_flags: u32) -> Result<OwnedFd, Errno> {
        let node = self.inodes.get(number)?;
        self.regular(node)?;
        let kept = kept(flags);
        if kept & OFlags::ACCMODE != OFlags::RDONLY || kept.contains(OFlags::TRUNC) {
            self.share.writable()?;
        }
        if kept.contains(OFlags::TRUNC) {
            self.changes(number);
        }
        let file = self.share.reopen(node, kept)?;
        if open_flags & OPEN_KILL_SUIDGID != 0 {
            self.kill_privileges(node)?;
        }
        Ok(file)
    }

    pub(super) fn open(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (flags, open_flags) = (args.u32()?, args.u32()?);
        self.handles.room()?;
        let file = self.open_file(node, flags, open_flags)?;
        let handle = self.handles.add(Handle::File(Arc::new(file)))?;
        let mut body = Body::default();
        body.u64(handle).u64(0);
        Ok(body.into())
    }

    pub(super) fn read(&mut self, mut args: Args<'_>, output: &Buffers) -> Result<Outcome, Errno> {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let file = self.handles.file(handle)?;
        let mut room = output.tail(REPLY_HEADER);
        room.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let count = room.read_from_at(file, offset).map_err(|error| errno(&error))?;
        Ok(Outcome::Placed(count))
    }

    pub(super) fn write(&mut self, node: u64, mut input: Buffers) -> Result<Outcome, Errno> {
        let mut head = [0; WRITE_ARGS];
        if input.read_at(0, &mut head) < WRITE_ARGS {
            return Err(Errno::INVAL);
        }
        input.skip(WRITE_ARGS);
        let mut args = Args::new(&head);
        let (handle, offset, size, flags) = (args.u64()?, args.u64()?, args.u32()?, args.u32()?);
        self.share.writable()?;
        self.changes(node);
        let file = self.handles.file(handle)?;
        if flags & WRITE_KILL_SUIDGID != 0 && rustix::process::geteuid().is_root() {
            self.kill_privileges_of(file)?;
        }
        input.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let count = input.write_to_at(file, offset).map_err(|error| errno(&error))?;
        let mut body = Body::default();
        body.u32(u32::try_from(count).map_err(|_| Errno::IO)?).u32(0);
        Ok(body.into())
    }

    /// Ends set-user-id of an open file, where root writes to it.
    fn kill_privileges_of(&self, file: &OwnedFd) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        if stat.st_mode & super::attr::SUIDGID != 0 {
            let mode = stat.st_mode & 0o7777 & !super::attr::SUIDGID;
            rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// FLUSH: a descriptor of the file is closed in the guest, which ends its owner's POSIX locks (`close`(2)).
    pub(super) fn flush(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let handle = args.u64()?;
        args.skip(8)?;
        let owner = args.u64()?;
        self.handles.file(handle)?;
        self.locks.release(node, owner);
        Ok(Outcome::done())
    }

    pub(super) fn release(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        self.handles.close(args.u64()?);
        Ok(Outcome::done())
    }

    pub(super) fn fsync(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (handle, flags) = (args.u64()?, args.u32()?);
        let file = self.handles.file(handle)?;
        if flags & DATA_ONLY != 0 {
            fdatasync(file)?
        } else {
            fsync(file)?
        }
        Ok(Outcome::done())
    }

    pub(super) fn fallocate(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (handle, offset, len, mode) = (args.u64()?, args.u64()?, args.u64()?, args.u32()?);
        self.share.writable()?;
        self.changes(node);
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        fallocate(self.handles.file(handle)?, mode, offset, len)?;
        Ok(Outcome::done())
    }

    /// LSEEK: where data or a hole begins; all else the guest's kernel knows itself.
    pub(super) fn lseek(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (handle, offset, whence) = (args.u64()?, args.u64()?, args.u32()?);
        let to = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let at = seek(self.handles.file(handle)?, to)?;
        let mut body = Body::default();
        body.u64(at);
        Ok(body.into())
    }

    pub(super) fn copy_file_range(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (from, mut from_at) = (args.u64()?, args.u64()?);
        let to_node = args.u64()?;
        let (to, mut to_at, len) = (args.u64()?, args.u64()?, args.u64()?);
        self.share.writable()?;
        self.changes(to_node);
        let (from, to) = (self.handles.file(from)?, self.handles.file(to)?);
        let len = usize::try_from(len.min(COPY_AT_ONCE)).unwrap_or(0);
        let count = copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len)?;
        let mut body = Body::default();
        body.u32(u32::try_from(count).map_err(|_| Errno::IO)?).u32(0);
        Ok(body.into())
    }
}
