//! The tree an archive is unpacked into. Every path is resolved by the kernel as if the tree were the root
//! (`RESOLVE_IN_ROOT`), so that no entry and no symbolic link of it leads outside.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::refusal::Refusal;
use super::sparse::Extent;
use super::tar_stream::{Entry, Kind};

/// Deepest path, components.
pub const MAX_DEPTH: usize = 200;
/// Ids a container knows.
const IDS: u64 = 65536;
const BUFFER: usize = 256 * 1024;

/// The root of a tree being written.
pub struct Tree {
    root: OwnedFd,
    /// The directory that the last entry went into: entries of one directory come together.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories and their times, which are set last, as each entry changes its directory's.
    directories: Vec<(Vec<u8>, (i64, u32))>,
    buffer: Vec<u8>,
}

/// Whether an entry was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was.
    Yes,
    /// It is a device, which containers get from outside.
    SkippedDevice,
}

impl Tree {
    /// Makes the directory `name` in the current directory and begins a tree in it.
    pub fn create(name: &str) -> Result<Self, Refusal> {
        let failed = |errno| Refusal::writing(name.as_bytes(), errno);
        fs::mkdir(name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = fs::openat(CWD, name, flags, Mode::empty()).map_err(failed)?;
        fs::fchown(&root, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(failed)?;
        fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(failed)?;
        Ok(Self { root, parent: None, directories: Vec::new(), buffer: vec![0; BUFFER] })
    }

    /// The tree's root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that the last entry went into may not be there any more.
    pub fn forget_parent(&mut self) {
        self.parent = None;
    }

    /// Makes one entry; `path` is the entry's, cleaned by [`clean`].
    pub fn write(&mut self, path: &[u8], entry: &Entry, data: &mut impl Read) -> Result<Made, Refusal> {
        if entry.uid >= IDS || entry.gid >= IDS {
            let owner = format!("the owner {}:{}, beyond 65535", entry.uid, entry.gid);
            return Err(Refusal::absurd(path, owner));
        }
        if path.is_empty() {
            if entry.kind == Kind::Directory {
                self.dress(path, None, entry)?;
                self.directories.push((Vec::new(), entry.mtime));
            }
            return Ok(Made::Yes);
        }
        let (parent, name) = split(path);
        self.enter(parent)?;
        match &entry.kind {
            Kind::Device => return Ok(Made::SkippedDevice),
            Kind::Directory => self.directory(path, name, entry)?,
            Kind::File { size, extents } => self.file(path, name, entry, *size, extents, data)?,
            Kind::Symlink(target) => self.symlink(path, name, entry, target)?,
            Kind::Hardlink(target) => self.hardlink(path, name, target)?,
            Kind::Fifo => self.fifo(path, name, entry)?,
        }
        Ok(Made::Yes)
    }

    /// Sets the times of the directories and gives the root back.
    pub fn finish(self) -> Result<OwnedFd, Refusal> {
        // In their order: what was said last of one counts.
        for (path, mtime) in &self.directories {
            let opened = if path.is_empty() {
                fs::openat(
                    &self.root,
                    ".",
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
            } else {
                open_in(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            };
            match opened {
                Ok(directory) => {
                    fs::futimens(&directory, &times(*mtime))
                        .map_err(|errno| Refusal::writing(path, errno))?;
                }
                // A later entry has put something else in its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(Refusal::writing(path, errno)),
            }
        }
        Ok(self.root)
    }

    fn directory(&mut self, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let failed = |errno| Refusal::writing(path, errno);
        let mode = Mode::from_raw_mode(0o700);
        match fs::mkdirat(self.here(), name, mode) {
            Err(Errno::EXIST) => {
                let there = fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    self.replace(path, name)?;
                    fs::mkdirat(self.here(), name, mode).map_err(failed)?;
                }
            }
            made => made.map_err(failed)?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(self.here(), name, flags, Mode::empty()).map_err(failed)?;
        self.dress(path, Some(directory.as_fd()), entry)?;
        self.directories.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        name: &[u8],
        entry: &Entry,
        size: u64,
        extents: &[Extent],
        data: &mut impl Read,
    ) -> Result<(), Refusal> {
        let failed = |errno| Refusal::writing(path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = match fs::openat(self.here(), name, flags, mode) {
            Err(Errno::EXIST) => {
                self.replace(path, name)?;
                fs::openat(self.here(), name, flags, mode)
            }
            opened => opened,
        }
        .map_err(failed)?;
        let mut end = 0;
        for extent in extents {
            let (mut at, mut left) = (extent.offset, extent.length);
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                data.read_exact(&mut self.buffer[..most]).map_err(|error| Refusal::reading(&error))?;
                let mut rest = &self.buffer[..most];
                while !rest.is_empty() {
                    let count = rustix::io::pwrite(&file, rest, at).map_err(failed)?;
                    rest = &rest[count..];
                    at += count as u64;
                }
                left -= most as u64;
                end = at;
            }
        }
        if end < size {
            fs::ftruncate(&file, size).map_err(failed)?;
        }
        self.dress(path, Some(file.as_fd()), entry)?;
        fs::futimens(&file, &times(entry.mtime)).map_err(failed)
    }

    fn symlink(&mut self, path: &[u8], name: &[u8], entry: &Entry, target: &[u8]) -> Result<(), Refusal> {
        self.make(path, name, |here| fs::symlinkat(target, here, name))?;
        self.dress_by_name(path, name, entry)
    }

    fn fifo(&mut self, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(path, name, |here| fs::mknodat(here, name, FileType::Fifo, mode, 0))?;
        fs::chmodat(self.here(), name, mode, AtFlags::empty())
            .map_err(|errno| Refusal::writing(path, errno))?;
        self.dress_by_name(path, name, entry)
    }

    fn hardlink(&mut self, path: &[u8], name: &[u8], target: &[u8]) -> Result<(), Refusal> {
        let target = clean_link(target)?;
        let (parent, base) = split(&target);
        let directory =
            open_in(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| match errno {
                Errno::NOENT => Refusal::absurd(path, "a link to a file that is not there"),
                errno => Refusal::writing(path, errno),
            })?;
        let link = |here: BorrowedFd<'_>| fs::linkat(&directory, base, here, name, AtFlags::empty());
        match link(self.here()) {
            Err(Errno::EXIST) => {
                // Replacing a file by a link to itself would lose it.
                let stat = |at: BorrowedFd<'_>, name: &[u8]| fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
                let (old, new) = (stat(directory.as_fd(), base), stat(self.here(), name));
                if let (Ok(old), Ok(new)) = (old, new)
                    && (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)
                {
                    return Ok(());
                }
                self.replace(path, name)?;
                link(self.here())
            }
            linked => linked,
        }
        .map_err(|errno| match errno {
            Errno::NOENT => Refusal::absurd(path, "a link to a file that is not there"),
            Errno::PERM => Refusal::absurd(path, "a hard link to a directory"),
            errno => Refusal::writing(path, errno),
        })
    }

    /// Makes a thing under `name`, in the place of what may be there.
    fn make(
        &mut self,
        path: &[u8],
        name: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<(), Refusal> {
        match make(self.here()) {
            Err(Errno::EXIST) => {
                self.replace(path, name)?;
                make(self.here())
            }
            made => made,
        }
        .map_err(|errno| Refusal::writing(path, errno))
    }

    /// Removes what an earlier entry made under `name`; directories stay what they are.
    fn replace(&mut self, path: &[u8], name: &[u8]) -> Result<(), Refusal> {
        fs::unlinkat(self.here(), name, AtFlags::empty()).map_err(|errno| match errno {
            Errno::ISDIR => Refusal::absurd(path, "the place of a directory"),
            errno => Refusal::writing(path, errno),
        })
    }

    /// Owner, attributes and mode; in this order, as a change of owner drops both of the others.
    fn dress(&self, path: &[u8], file: Option<BorrowedFd<'_>>, entry: &Entry) -> Result<(), Refusal> {
        let file = file.unwrap_or(self.root.as_fd());
        let failed = |errno| Refusal::writing(path, errno);
        fs::fchown(file, Some(uid(entry.uid)), Some(gid(entry.gid))).map_err(failed)?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            match fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                // A file system without them, or an ordinary user's rights: the box runs without.
                Err(Errno::NOTSUP | Errno::PERM) => {}
                // Attributes have little room of their own: this does not mean that the disk is full.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {
                    return Err(Refusal::absurd(path, "extended attributes that are too large"));
                }
                set => set.map_err(failed)?,
            }
        }
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed)
    }

    fn dress_by_name(&self, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let failed = |errno| Refusal::writing(path, errno);
        let here = self.here();
        let (owner, group) = (Some(uid(entry.uid)), Some(gid(entry.gid)));
        fs::chownat(here, name, owner, group, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        fs::utimensat(here, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// The directory entered last.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd())
    }

    /// Goes to the directory `path`, making what is missing on the way.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result<(), Refusal> {
        if self.parent.as_ref().is_some_and(|(entered, _)| entered == path) {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = match open_in(&self.root, path, flags) {
            Err(Errno::NOENT) => self.make_parents(path).and_then(|()| open_in(&self.root, path, flags)),
            opened => opened,
        };
        self.parent = Some((path.to_vec(), directory.map_err(|errno| Refusal::writing(path, errno))?));
        Ok(())
    }

    fn make_parents(&self, path: &[u8]) -> rustix::io::Result<()> {
        let ends =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| i).chain([path.len()]);
        for end in ends {
            let (parent, name) = split(&path[..end]);
            let directory = open_in(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            match fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => fs::chownat(
                    &directory,
                    name,
                    Some(Uid::ROOT),
                    Some(Gid::ROOT),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Opens `path` below `root`, with symbolic links read as if `root` were `/`.
pub fn open_in(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel saw a rename somewhere on the machine and could not be sure of a `..`.
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// The path without `./`, empty components and `prefix`; `None` where it is not below `prefix`.
pub fn clean(path: &[u8], prefix: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    if path.starts_with(b"/") {
        return Err(Refusal::LeadsOut(super::refusal::lossy(path)));
    }
    clean_relative(path, path).map(|clean| match prefix {
        b"" => Some(clean),
        prefix if clean == prefix => Some(Vec::new()),
        prefix => clean.strip_prefix(prefix)?.strip_prefix(b"/").map(<[u8]>::to_vec),
    })
}

/// A hard link's target, which some archives write with a leading slash.
fn clean_link(target: &[u8]) -> Result<Vec<u8>, Refusal> {
    let start = target.iter().position(|byte| *byte != b'/').unwrap_or(target.len());
    clean_relative(&target[start..], target)
}

fn clean_relative(path: &[u8], whole: &[u8]) -> Result<Vec<u8>, Refusal> {
    let components: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if components.contains(&&b".."[..]) {
        return Err(Refusal::LeadsOut(super::refusal::lossy(whole)));
    }
    if components.len() > MAX_DEPTH {
        return Err(Refusal::absurd(whole, format!("more than {MAX_DEPTH} directories above it")));
    }
    if whole.contains(&0) {
        return Err(Refusal::absurd(whole, "a zero byte in its name"));
    }
    Ok(components.join(&b'/'))
}

pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Attributes that mean something inside a machine. What overlayfs keeps in attributes would change how the
/// layer is read, and labels of the machine that packed it mean nothing here.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn uid(id: u64) -> Uid {
    Uid::from_raw(id as u32)
}

fn gid(id: u64) -> Gid {
    Gid::from_raw(id as u32)
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        let cleaned = |path: &str, prefix: &str| clean(path.as_bytes(), prefix.as_bytes());
        assert_eq!(cleaned("./etc//passwd/", "").unwrap().unwrap(), b"etc/passwd");
        assert_eq!(cleaned("./", "").unwrap().unwrap(), b"");
        assert_eq!(cleaned("./rootfs/etc", "rootfs").unwrap().unwrap(), b"etc");
        assert_eq!(cleaned("rootfs", "rootfs").unwrap().unwrap(), b"");
        assert_eq!(cleaned("rootfs2/etc", "rootfs").unwrap(), None);
        for bad in ["/etc/passwd", "../x", "a/../../x", "a/..", ".."] {
            assert!(matches!(cleaned(bad, ""), Err(Refusal::LeadsOut(_))), "{bad}");
        }
        assert!(cleaned(&"a/".repeat(300), "").is_err());
        assert!(cleaned("a\0b", "").is_err());
    }

    #[test]
    fn attributes_that_steer_overlayfs_are_dropped() {
        for kept in ["security.capability", "user.mime_type"] {
            assert!(is_kept(kept.as_bytes()));
        }
        for dropped in
            ["trusted.overlay.redirect", "user.overlay.opaque", "security.selinux", "system.posix_acl_access"]
        {
            assert!(!is_kept(dropped.as_bytes()));
        }
    }
}
