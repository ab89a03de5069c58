//! The inodes the guest knows.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx};
use rustix::io::Errno;

use super::name::Name;

/// The number of the folder itself (`FUSE_ROOT_ID`).
pub const ROOT: u64 = 1;

/// What makes an inode the same: its file system, its number there, and the mount it is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    dev: (u32, u32),
    ino: u64,
    mount: u64,
}

impl Key {
    fn of(stat: &Statx) -> Self {
        Self { dev: (stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino, mount: stat.stx_mnt_id }
    }
}

/// An inode: a descriptor that pins it without opening it, and its type, which never changes.
#[derive(Debug, Clone)]
pub struct Node {
    fd: Arc<OwnedFd>,
    kind: FileType,
}

impl Node {
    /// Its type.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// What it is now.
    pub fn stat(&self) -> Result<Statx, Errno> {
        stat(self.fd.as_fd())
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[derive(Debug)]
struct Known {
    node: Node,
    key: Key,
    lookups: u64,
}

/// All of them, by number. Numbers are never used twice.
#[derive(Debug)]
pub struct Inodes {
    known: HashMap<u64, Known>,
    numbers: HashMap<Key, u64>,
    next: u64,
    most: usize,
}

impl Inodes {
    /// The folder `root` alone, with room for `most`.
    pub fn new(root: OwnedFd, most: usize) -> Result<Self, Errno> {
        let stat = stat(root.as_fd())?;
        let (key, kind) = (Key::of(&stat), FileType::from_raw_mode(stat.stx_mode.into()));
        let node = Node { fd: Arc::new(root), kind };
        Ok(Self {
            known: HashMap::from([(ROOT, Known { node, key, lookups: 1 })]),
            numbers: HashMap::from([(key, ROOT)]),
            next: ROOT + 1,
            most,
        })
    }

    /// The inode with this number.
    pub fn get(&self, number: u64) -> Result<&Node, Errno> {
        self.known.get(&number).map(|known| &known.node).ok_or(Errno::STALE)
    }

    /// The file system of the inode with this number, and its number there.
    pub fn inode(&self, number: u64) -> Option<((u32, u32), u64)> {
        self.known.get(&number).map(|known| (known.key.dev, known.key.ino))
    }

    /// The directory with this number.
    pub fn dir(&self, number: u64) -> Result<&Node, Errno> {
        let node = self.get(number)?;
        if node.kind == FileType::Directory { Ok(node) } else { Err(Errno::NOTDIR) }
    }

    /// Looks `name` up in directory `parent`, and counts that the guest knows what is there.
    pub fn lookup(&mut self, parent: u64, name: &Name) -> Result<(u64, Statx), Errno> {
        let dir = self.dir(parent)?;
        let fd = openat2(
            dir,
            name.path(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )?;
        self.learn(fd)
    }

    /// Counts that the guest knows the inode behind `fd`, an `O_PATH` descriptor.
    pub fn learn(&mut self, fd: OwnedFd) -> Result<(u64, Statx), Errno> {
        let stat = stat(fd.as_fd())?;
        let key = Key::of(&stat);
        if let Some(number) = self.numbers.get(&key) {
            if let Some(known) = self.known.get_mut(number) {
                known.lookups = known.lookups.saturating_add(1);
            }
            return Ok((*number, stat));
        }
        if self.known.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next += 1;
        let node = Node { fd: Arc::new(fd), kind: FileType::from_raw_mode(stat.stx_mode.into()) };
        self.known.insert(number, Known { node, key, lookups: 1 });
        self.numbers.insert(key, number);
        Ok((number, stat))
    }

    /// Takes back `count` of the guest's lookups. Returns whether it knows the inode no more.
    pub fn forget(&mut self, number: u64, count: u64) -> bool {
        if number == ROOT {
            return false;
        }
        let Some(known) = self.known.get_mut(&number) else { return false };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups > 0 {
            return false;
        }
        let key = known.key;
        self.known.remove(&number);
        self.numbers.remove(&key);
        true
    }

    /// Forgets all but the folder itself.
    pub fn clear(&mut self) {
        self.known.retain(|number, _| *number == ROOT);
        self.numbers.retain(|_, number| *number == ROOT);
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}
