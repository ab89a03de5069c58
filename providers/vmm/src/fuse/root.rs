//! The folder that is shared, as the host has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fstat, open};

/// A folder of the host, pinned: it stays the same one whatever becomes of its path, and can be served where its path
/// could not be walked any more, as in a jail without the rights of whoever opened it. A clone is the same folder.
#[derive(Debug, Clone)]
pub struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Root {
    /// Pins the folder at `path`.
    ///
    /// # Errors
    /// Where it is no folder, or the way to it may not be walked.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Where it was.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is: user and group.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn owner(&self) -> io::Result<(u32, u32)> {
        let stat = fstat(&self.fd)?;
        Ok((stat.st_uid, stat.st_gid))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
