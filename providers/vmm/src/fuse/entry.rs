//! Names: looking them up, making, moving and removing what they stand for.

use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Statx, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::VALIDITY;
use super::handle::Handle;
use super::name::Name;
use super::server::{Outcome, Server};
use super::wire::{Args, Body};

/// The longest target of a symbolic link, bytes (`PATH_MAX` without its NUL).
const LONGEST_TARGET: usize = 4095;

/// Bytes of `struct fuse_entry_out`.
pub(super) const ENTRY: usize = 128;

fn name(args: &mut Args<'_>) -> Result<Name, Errno> {
    Name::new(args.text()?)
}

impl Server {
    /// `struct fuse_entry_out`.
    pub(super) fn entry(&self, number: u64, stat: &Statx, body: &mut Body) {
        body.u64(number).u64(0).u64(VALIDITY.as_secs()).u64(VALIDITY.as_secs());
        body.u32(VALIDITY.subsec_nanos()).u32(VALIDITY.subsec_nanos());
        self.attr(stat, body);
    }

    /// The reply to having made `name`, which is given the bits of `mode` that this process's umask has taken.
    fn made(&mut self, parent: u64, name: &Name, mode: u32) -> Result<Outcome, Errno> {
        let (number, stat) = self.inodes.lookup(parent, name)?;
        let stat = self.unmask(number, stat, mode)?;
        let mut body = Body::default();
        self.entry(number, &stat, &mut body);
        Ok(body.into())
    }

    fn unmask(&self, number: u64, stat: Statx, mode: u32) -> Result<Statx, Errno> {
        let has = u32::from(stat.stx_mode) & 0o7777;
        let missing = mode & self.share.masked & !has;
        if missing == 0 {
            return Ok(stat);
        }
        let node = self.inodes.get(number)?;
        self.chmod(node, has | missing)?;
        node.stat()
    }

    fn known(&mut self, parent: u64, name: &Name) -> Result<Outcome, Errno> {
        let (number, stat) = self.inodes.lookup(parent, name)?;
        let mut body = Body::default();
        self.entry(number, &stat, &mut body);
        Ok(body.into())
    }

    pub(super) fn lookup(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        self.known(parent, &name(&mut args)?)
    }

    pub(super) fn readlink(&mut self, node: u64) -> Result<Outcome, Errno> {
        let node = self.inodes.get(node)?;
        if node.kind() != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        Ok(Body::from(readlinkat(node, c"", Vec::new())?.into_bytes()).into())
    }

    pub(super) fn symlink(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (name, target) = (name(&mut args)?, args.text()?);
        if target.len() > LONGEST_TARGET {
            return Err(Errno::NAMETOOLONG);
        }
        self.share.writable()?;
        self.changes_entry(parent, &name);
        symlinkat(target, self.inodes.dir(parent)?, name.path())?;
        self.known(parent, &name)
    }

    /// MKNOD: regular files, pipes and sockets, which the guest's kernel serves itself. The host gets no device nodes.
    pub(super) fn mknod(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let mode = args.u32()?;
        args.skip(12)?;
        let name = name(&mut args)?;
        self.share.writable()?;
        let kind = match FileType::from_raw_mode(mode) {
            kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket) => kind,
            FileType::CharacterDevice | FileType::BlockDevice => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        self.changes_entry(parent, &name);
        mknodat(self.inodes.dir(parent)?, name.path(), kind, Mode::from_raw_mode(mode & 0o7777), 0)?;
        self.made(parent, &name, mode)
    }

    pub(super) fn mkdir(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let mode = args.u32()?;
        args.skip(4)?;
        let name = name(&mut args)?;
        self.share.writable()?;
        self.changes_entry(parent, &name);
        mkdirat(self.inodes.dir(parent)?, name.path(), Mode::from_raw_mode(mode & 0o7777))?;
        self.made(parent, &name, mode)
    }

    pub(super) fn unlink(&mut self, parent: u64, mut args: Args<'_>, dir: bool) -> Result<Outcome, Errno> {
        let name = name(&mut args)?;
        self.share.writable()?;
        self.changes_entry(parent, &name);
        let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(self.inodes.dir(parent)?, name.path(), flags)?;
        Ok(Outcome::done())
    }

    pub(super) fn rename(&mut self, from: u64, mut args: Args<'_>, flagged: bool) -> Result<Outcome, Errno> {
        let to = args.u64()?;
        let mut flags = RenameFlags::empty();
        if flagged {
            flags = RenameFlags::from_bits(args.u32()?).ok_or(Errno::INVAL)?;
            args.skip(4)?;
        }
        // A whiteout is a device node.
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (name(&mut args)?, name(&mut args)?);
        self.share.writable()?;
        self.changes_entry(from, &old);
        self.changes_entry(to, &new);
        renameat_with(self.inodes.dir(from)?, old.path(), self.inodes.dir(to)?, new.path(), flags)?;
        Ok(Outcome::done())
    }

    pub(super) fn link(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (node, name) = (args.u64()?, name(&mut args)?);
        self.share.writable()?;
        self.changes_entry(parent, &name);
        self.changes(node);
        let node = self.inodes.get(node)?;
        if node.kind() == FileType::Directory {
            return Err(Errno::PERM);
        }
        let dir = self.inodes.dir(parent)?;
        linkat(
            self.share.descriptors(),
            DecInt::from_fd(node),
            dir,
            name.path(),
            // Follows the one link in `/proc`, to the inode itself.
            AtFlags::SYMLINK_FOLLOW,
        )?;
        self.known(parent, &name)
    }

    pub(super) fn create(&mut self, parent: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (flags, mode) = (args.u32()?, args.u32()?);
        args.skip(8)?;
        let name = name(&mut args)?;
        self.share.writable()?;
        self.handles.room()?;
        self.changes_entry(parent, &name);
        let wanted = OFlags::from_bits_retain(flags);
        let dir = self.inodes.dir(parent)?;
        let made = openat(
            dir,
            name.path(),
            super::file::kept(flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode & 0o7777),
        );
        let (number, stat, file) = match made {
            Ok(file) => {
                // The inode of what was opened, whatever the name stands for by now.
                let pin = openat(
                    self.share.descriptors(),
                    DecInt::from_fd(file.as_fd()),
                    OFlags::PATH | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let (number, stat) = self.inodes.learn(pin)?;
                (number, self.unmask(number, stat, mode)?, file)
            }
            Err(Errno::EXIST) if !wanted.contains(OFlags::EXCL) => {
                // Made on the host since the guest has looked: to be opened, if it is a file.
                let (number, stat) = match self.inodes.lookup(parent, &name) {
                    // And removed since; the guest looks again.
                    Err(Errno::NOENT) => return Err(Errno::STALE),
                    known => known?,
                };
                match self.open_file(number, flags, 0) {
                    Ok(file) => (number, stat, file),
                    Err(error) => {
                        self.forget_one(number, 1);
                        return Err(error);
                    }
                }
            }
            Err(error) => return Err(error),
        };
        let handle = self.handles.add(Handle::File(std::sync::Arc::new(file)))?;
        let mut body = Body::default();
        self.entry(number, &stat, &mut body);
        body.u64(handle).u64(0);
        Ok(body.into())
    }
}
