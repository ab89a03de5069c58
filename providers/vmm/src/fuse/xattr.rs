//! Extended attributes: those of users. Others mean something to the host's kernel (capabilities, labels, access lists
//! with ids of the host), and are neither shown to the guest nor set by it.

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::server::{Outcome, Server};
use super::wire::{Args, Body};

/// The largest value and the longest list of names, bytes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LARGEST: usize = 64 << 10;
/// What the names of users' attributes begin with.
const USERS: &[u8] = b"user.";

fn users(name: &[u8]) -> bool {
    name.starts_with(USERS) && name.len() > USERS.len()
}

/// The reply to a request that has room for `size` bytes; for the length alone where that is 0.
fn sized(value: &[u8], size: u32) -> Result<Outcome, Errno> {
    let mut body = Body::default();
    let len = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    if size == 0 {
        body.u32(len).u32(0);
    } else if len > size {
        return Err(Errno::RANGE);
    } else {
        body.bytes(value);
    }
    Ok(body.into())
}

impl Server {
    pub(super) fn getxattr(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let size = args.u32()?;
        args.skip(4)?;
        let name = args.text()?;
        let node = self.inodes.get(node)?;
        if !users(name) {
            return Err(Errno::NODATA);
        }
        let mut value = Vec::with_capacity(LARGEST);
        getxattr(Self::proc_path(node), name, rustix::buffer::spare_capacity(&mut value))?;
        sized(&value, size)
    }

    pub(super) fn listxattr(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let size = args.u32()?;
        let node = self.inodes.get(node)?;
        let mut list = Vec::with_capacity(LARGEST);
        listxattr(Self::proc_path(node), rustix::buffer::spare_capacity(&mut list))?;
        let shown: Vec<u8> = list
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| name.starts_with(USERS))
            .flatten()
            .copied()
            .collect();
        sized(&shown, size)
    }

    pub(super) fn setxattr(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let (size, flags) = (args.u32()?, args.u32()?);
        let name = args.text()?;
        let value = args.bytes(usize::try_from(size).map_err(|_| Errno::TOOBIG)?)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.share.writable()?;
        self.changes(node);
        let node = self.inodes.get(node)?;
        if !users(name) {
            return Err(Errno::OPNOTSUPP);
        }
        setxattr(Self::proc_path(node), name, value, flags)?;
        Ok(Outcome::done())
    }

    pub(super) fn removexattr(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        let name = args.text()?;
        self.share.writable()?;
        self.changes(node);
        let node = self.inodes.get(node)?;
        if !users(name) {
            return Err(Errno::NODATA);
        }
        removexattr(Self::proc_path(node), name)?;
        Ok(Outcome::done())
    }
}
