//! A file that appears as a whole.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use crate::{ImageError, Result};

/// A file being written: beside its place until it is whole.
pub struct Output {
    file: File,
    part: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Output {
    /// Begins the file `target`, in the place of what is there. What a killed writer has left beside it is taken over.
    ///
    /// # Errors
    /// [`ImageError::Busy`] where somebody else writes it, [`ImageError::Full`], [`ImageError::Io`].
    pub fn create(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let part = target.with_file_name(format!(".{name}.part"));
        let failed = |error| ImageError::io("write", target, error);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&part)
                .map_err(failed)?;
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(ImageError::Busy(target.to_owned()));
            }
            // Another process may have finished with it, or removed it, before it was locked.
            let same = |there: std::fs::Metadata| {
                file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
            };
            if std::fs::symlink_metadata(&part).is_ok_and(same) {
                file.set_len(0).map_err(failed)?;
                return Ok(Self { file, part, target: target.to_owned(), finished: false });
            }
        }
    }

    /// What is written to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|error| ImageError::io("write", &self.target, error))
    }

    pub(crate) fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| ImageError::io("write", &self.target, error))
    }

    /// Syncs it and puts it in its place.
    ///
    /// # Errors
    /// [`ImageError::Full`], [`ImageError::Io`].
    pub fn finish(mut self) -> Result<()> {
        let failed = |error| ImageError::io("write", &self.target, error);
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.part, &self.target).map_err(failed)?;
        self.finished = true;
        let directory = self.target.parent().filter(|path| !path.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed is taken over by the next one.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
