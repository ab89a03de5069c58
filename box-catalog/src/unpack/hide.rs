//! What a layer takes away of those below it.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layers::Made;
use super::refusal::Refusal;
use super::tar_stream::Kind;
use super::tree::{MAX_DEPTH, Tree, open_in, split};

impl Tree {
    /// Takes away a directory at `path` where something else is to stand.
    pub fn give_way(&mut self, path: &[u8], kind: &Kind) -> Result<(), Refusal> {
        if path.is_empty() || matches!(kind, Kind::Directory | Kind::Device) {
            return Ok(());
        }
        let (parent, name) = split(path);
        self.enter(parent)?;
        match fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.hide(path, &Made::default())
            }
            _ => Ok(()),
        }
    }

    /// Bytes in all its files.
    pub fn size(&self) -> Result<u64, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = open_in(self.root(), b"", flags).map_err(|errno| Refusal::writing(b"", errno))?;
        measure(root.as_fd(), &mut HashSet::new(), 0)
    }

    /// Takes away what is at `path`, but what `made` has.
    pub fn hide(&mut self, path: &[u8], made: &Made) -> Result<(), Refusal> {
        let (parent, name) = split(path);
        self.within(parent, |directory| remove(directory, path, name, made, 0).map(drop))
    }

    /// Takes away what is in the directory `path`, but what `made` has.
    pub fn empty(&mut self, path: &[u8], made: &Made) -> Result<(), Refusal> {
        self.within(path, |directory| clear(directory, path, made, 0).map(drop))
    }

    /// Works in a directory, where it is one.
    fn within(
        &mut self,
        path: &[u8],
        work: impl FnOnce(BorrowedFd<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let directory = match open_in(self.root(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
            // There is nothing to take away.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened.map_err(|errno| Refusal::writing(path, errno))?,
        };
        // It may be one of those that go.
        self.forget_parent();
        work(directory.as_fd())
    }
}

/// Removes `name` with all below it, but what `made` has; whether it is gone.
fn remove(
    directory: BorrowedFd<'_>,
    path: &[u8],
    name: &[u8],
    made: &Made,
    depth: usize,
) -> Result<bool, Refusal> {
    let failed = |errno| Refusal::writing(path, errno);
    let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(true),
        stat => stat.map_err(failed)?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        if made.contains(path) {
            return Ok(false);
        }
        return fs::unlinkat(directory, name, AtFlags::empty()).map(|()| true).map_err(failed);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = fs::openat(directory, name, flags, Mode::empty()).map_err(failed)?;
    let empty = clear(inside.as_fd(), path, made, depth + 1)?;
    if !empty || made.contains(path) {
        return Ok(false);
    }
    fs::unlinkat(directory, name, AtFlags::REMOVEDIR).map(|()| true).map_err(failed)
}

/// Empties a directory, but for what `made` has; whether nothing is left.
fn clear(directory: BorrowedFd<'_>, path: &[u8], made: &Made, depth: usize) -> Result<bool, Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::absurd(path, format!("more than {MAX_DEPTH} directories above it")));
    }
    let failed = |errno| Refusal::writing(path, errno);
    let mut empty = true;
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let below = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        empty &= remove(directory, &below, name, made, depth)?;
    }
    Ok(empty)
}

/// Bytes in all files below `directory`; those that have several names are put down in `seen`.
fn measure(directory: BorrowedFd<'_>, seen: &mut HashSet<u64>, depth: usize) -> Result<u64, Refusal> {
    let failed = |errno| Refusal::writing(b"", errno);
    let mut sum = 0_u64;
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_nlink == 1 || seen.insert(stat.st_ino) => {
                sum = sum.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            FileType::Directory if depth >= MAX_DEPTH => {
                return Err(Refusal::absurd(
                    name.to_bytes(),
                    format!("more than {MAX_DEPTH} directories above it"),
                ));
            }
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inside = fs::openat(directory, name, flags, Mode::empty()).map_err(failed)?;
                sum = sum.saturating_add(measure(inside.as_fd(), seen, depth + 1)?);
            }
            _ => {}
        }
    }
    Ok(sum)
}
