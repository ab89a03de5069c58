//! GETATTR, SETATTR, ACCESS, STATFS: what files are.

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, accessat,
    chmodat, chownat, fstatfs, fstatvfs, ftruncate, utimensat,
};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::inode::Node;
use super::server::{Outcome, Server};
use super::wire::{Args, Body};
use super::{RAISING, VALIDITY};

/// Which members of `struct fuse_setattr_in` count (`FATTR_…`).
mod valid {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// Set-user-id and set-group-id.
pub(super) const SUIDGID: u32 = 0o6000;

/// A device number as the protocol writes it.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

impl Server {
    /// `struct fuse_attr`.
    pub(super) fn attr(&self, stat: &Statx, body: &mut Body) {
        let owners = self.share.owners();
        body.u64(stat.stx_ino).u64(stat.stx_size).u64(stat.stx_blocks);
        let times = [stat.stx_atime, stat.stx_mtime, stat.stx_ctime];
        for time in times {
            body.u64(time.tv_sec.cast_unsigned());
        }
        for time in times {
            body.u32(time.tv_nsec);
        }
        body.u32(stat.stx_mode.into()).u32(stat.stx_nlink);
        body.u32(owners.shown_uid(stat.stx_uid)).u32(owners.shown_gid(stat.stx_gid));
        body.u32(device(stat.stx_rdev_major, stat.stx_rdev_minor)).u32(stat.stx_blksize).u32(0);
    }

    fn attr_out(&self, stat: &Statx) -> Body {
        let mut body = Body::default();
        body.u64(VALIDITY.as_secs()).u32(VALIDITY.subsec_nanos()).u32(0);
        self.attr(stat, &mut body);
        body
    }

    pub(super) fn getattr(&mut self, node: u64, _: Args<'_>) -> Result<Outcome, Errno> {
        let stat = self.inodes.get(node)?.stat()?;
        Ok(self.attr_out(&stat).into())
    }

    pub(super) fn setattr(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let valid = args.u32()?;
        args.skip(4)?;
        let (handle, size) = (args.u64()?, args.u64()?);
        args.skip(8)?;
        let (atime, mtime) = (args.u64()?, args.u64()?);
        args.skip(8)?;
        let (atime_ns, mtime_ns) = (args.u32()?, args.u32()?);
        args.skip(4)?;
        let mode = args.u32()?;
        args.skip(4)?;
        let (uid, gid) = (args.u32()?, args.u32()?);
        let has = |bit| valid & bit != 0;

        let nothing_else = !has(valid::MODE | valid::UID | valid::GID | valid::SIZE | valid::MTIME_NOW);
        if has(valid::MTIME) && mtime == RAISING && nothing_else {
            return self.getattr(node, args);
        }
        self.share.writable()?;
        self.changes(node);
        let node = self.inodes.get(node)?.clone();
        if has(valid::UID | valid::GID) {
            let now = node.stat()?;
            let wanted = (has(valid::UID).then_some(uid), has(valid::GID).then_some(gid));
            if let Some(change) = self.share.owners().chown((now.stx_uid, now.stx_gid), wanted)? {
                chownat(&node, c"", change.uid, change.gid, AtFlags::EMPTY_PATH)?;
            }
        }
        if has(valid::MODE) {
            self.chmod(&node, mode)?;
        }
        if has(valid::SIZE) {
            if has(valid::KILL_SUIDGID) {
                self.kill_privileges(&node)?;
            }
            if has(valid::FH) {
                ftruncate(self.handles.file(handle)?, size)?;
            } else {
                self.regular(&node)?;
                ftruncate(self.share.reopen(&node, OFlags::WRONLY)?, size)?;
            }
        }
        if has(valid::ATIME | valid::MTIME) {
            let time = |set, now, secs: u64, nanos: u32| Timespec {
                tv_sec: if has(set) { secs.cast_signed() } else { 0 },
                tv_nsec: match (has(set), has(now)) {
                    (false, _) => UTIME_OMIT,
                    (true, true) => UTIME_NOW,
                    // Never one of the two numbers that mean something else.
                    (true, false) => nanos.min(999_999_999).into(),
                },
            };
            let times = Timestamps {
                last_access: time(valid::ATIME, valid::ATIME_NOW, atime, atime_ns),
                last_modification: time(valid::MTIME, valid::MTIME_NOW, mtime, mtime_ns),
            };
            utimensat(self.share.descriptors(), DecInt::from_fd(&node), &times, AtFlags::empty())?;
        }
        let stat = node.stat()?;
        Ok(self.attr_out(&stat).into())
    }

    pub(super) fn chmod(&self, node: &Node, mode: u32) -> Result<(), Errno> {
        if node.kind() == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777);
        chmodat(self.share.descriptors(), DecInt::from_fd(node), mode, AtFlags::empty())
    }

    /// Ends set-user-id and set-group-id, as writing to a file does. The host's kernel does so itself unless the folder
    /// belongs to its root.
    pub(super) fn kill_privileges(&self, node: &Node) -> Result<(), Errno> {
        let mode = u32::from(node.stat()?.stx_mode);
        if node.kind() == FileType::RegularFile && mode & SUIDGID != 0 {
            self.chmod(node, mode & !SUIDGID)?;
        }
        Ok(())
    }

    pub(super) fn regular(&self, node: &Node) -> Result<(), Errno> {
        match node.kind() {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn access(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let mask = Access::from_bits(args.u32()?).ok_or(Errno::INVAL)?;
        let node = self.inodes.get(node)?;
        if mask.contains(Access::WRITE_OK) && node.kind() != FileType::Symlink {
            self.share.writable()?;
        }
        accessat(self.share.descriptors(), DecInt::from_fd(node), mask, AtFlags::EACCESS)?;
        Ok(Outcome::done())
    }

    pub(super) fn statfs(&mut self, node: u64) -> Result<Outcome, Errno> {
        let node = self.inodes.get(node)?;
        let (stat, kernel) = (fstatvfs(node)?, fstatfs(node)?);
        let mut body = Body::default();
        body.u64(stat.f_blocks).u64(stat.f_bfree).u64(stat.f_bavail).u64(stat.f_files).u64(stat.f_ffree);
        body.u32(u32::try_from(kernel.f_bsize).unwrap_or(4096));
        body.u32(u32::try_from(stat.f_namemax).unwrap_or(255));
        body.u32(u32::try_from(stat.f_frsize).unwrap_or(4096));
        body.pad(80);
        Ok(body.into())
    }
}
