//! Directories: listing them.

use std::mem::MaybeUninit;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, fsync, seek};
use rustix::io::Errno;

use super::entry::ENTRY;
use super::handle::Handle;
use super::name::Name;
use super::server::{Outcome, Server};
use super::wire::{Args, Body};

/// The longest listing given at once, bytes.
const AT_ONCE: usize = 128 << 10;
/// Room for what the host's kernel lists at once, bytes.
const ROOM: usize = 32 << 10;
/// Bytes of `struct fuse_dirent` without the name.
const DIRENT: usize = 24;

impl Server {
    pub(super) fn opendir(&mut self, node: u64) -> Result<Outcome, Errno> {
        self.handles.room()?;
        let fd = self.share.reopen(self.inodes.dir(node)?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let handle = self.handles.add(Handle::Dir(fd, 0))?;
        let mut body = Body::default();
        body.u64(handle).u64(0);
        Ok(body.into())
    }

    pub(super) fn fsyncdir(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        fsync(self.handles.dir(args.u64()?)?.0)?;
        Ok(Outcome::done())
    }

    /// READDIR, and READDIRPLUS, which looks up each name besides.
    pub(super) fn readdir(
        &mut self,
        node: u64,
        mut args: Args<'_>,
        room: usize,
        plus: bool,
    ) -> Result<Outcome, Errno> {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let room = room.min(AT_ONCE).min(usize::try_from(size).unwrap_or(AT_ONCE));
        let mut body = Body::default();
        let entries = self.list(handle, offset, room, if plus { ENTRY + DIRENT } else { DIRENT })?;
        for entry in entries {
            if plus {
                self.plus(node, &entry, &mut body);
            }
            body.u64(entry.ino).u64(entry.next).u32(u32::try_from(entry.name.len()).unwrap_or(0));
            body.u32(kind(entry.kind)).bytes(&entry.name);
            let aligned = body.0.len().next_multiple_of(8);
            body.pad(aligned);
        }
        Ok(body.into())
    }

    /// The entries from `offset` on that find room, when each takes `fixed` bytes and its name.
    fn list(&mut self, handle: u64, offset: u64, room: usize, fixed: usize) -> Result<Vec<Entry>, Errno> {
        let (fd, at) = self.handles.dir(handle)?;
        if *at != offset {
            seek(fd, SeekFrom::Start(offset))?;
            *at = offset;
        }
        let mut buffer = [MaybeUninit::uninit(); ROOM];
        let mut raw = RawDir::new(fd, &mut buffer);
        let (mut entries, mut used) = (Vec::new(), 0);
        let mut complete = true;
        while let Some(entry) = raw.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // What was listed so far is told first.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_bytes();
            used += (fixed + name.len()).next_multiple_of(8);
            if used > room {
                complete = false;
                break;
            }
            entries.push(Entry {
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type(),
                name: name.to_vec(),
            });
        }
        let next = entries.last().map_or(offset, |entry| entry.next);
        // The kernel has gone further than what found room.
        if !complete || !raw.is_buffer_empty() {
            seek(fd, SeekFrom::Start(next))?;
        }
        *at = next;
        if entries.is_empty() && !complete { Err(Errno::INVAL) } else { Ok(entries) }
    }

    /// `struct fuse_entry_out` of an entry; of inode 0 where there is nothing to tell, or nothing more to remember.
    fn plus(&mut self, parent: u64, entry: &Entry, body: &mut Body) {
        // `.` and `..` are no names: the guest knows both.
        let known = Name::new(&entry.name).and_then(|name| self.inodes.lookup(parent, &name));
        match known {
            Ok((number, stat)) => self.entry(number, &stat, body),
            Err(_) => {
                let len = body.0.len() + ENTRY;
                body.pad(len);
            }
        }
    }
}

struct Entry {
    ino: u64,
    next: u64,
    kind: FileType,
    name: Vec<u8>,
}

/// `DT_…`
fn kind(kind: FileType) -> u32 {
    kind.as_raw_mode() >> 12
}
