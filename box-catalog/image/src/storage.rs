//! Where the bytes of an image lie: a file, a part of one, or one with changes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::overlay::Overlay;
use crate::{ImageError, Result};

/// Bytes at places, which nobody writes to meanwhile. Clones share what is open.
#[derive(Debug, Clone)]
pub struct Storage {
    source: Source,
    start: u64,
    length: u64,
}

#[derive(Debug, Clone)]
enum Source {
    File(Arc<(File, PathBuf)>),
    Memory(Arc<[u8]>),
    Over(Arc<Overlay>),
}

impl Storage {
    /// All of the file at `path`.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| ImageError::io("open", path, error))?;
        Self::of(file, path)
    }

    /// All of an open file, which has to be one of its own: where it stands in it is changed. `path` is what errors call it.
    ///
    /// # Errors
    /// [`ImageError::Io`]; [`ImageError::Unknown`] for what is no plain file.
    pub fn of(file: File, path: &Path) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| ImageError::io("read", path, error))?;
        if !metadata.is_file() {
            return Err(ImageError::Unknown("a directory, pipe or device".to_owned()));
        }
        Ok(Self { source: Source::File(Arc::new((file, path.to_owned()))), start: 0, length: metadata.len() })
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self { source: Source::Memory(bytes.into()), start: 0, length }
    }

    /// A file with changes that it does not have.
    pub(crate) fn over(overlay: Overlay) -> Self {
        let length = overlay.length();
        Self { source: Source::Over(Arc::new(overlay)), start: 0, length }
    }

    /// A part of it: `length` bytes from `start` on, cut where it ends.
    #[must_use]
    pub fn part(&self, start: u64, length: u64) -> Self {
        let start = start.min(self.length);
        let length = length.min(self.length - start);
        Self { source: self.source.clone(), start: self.start + start, length }
    }

    /// How long it is, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    /// [`ImageError::Truncated`] where it ends before, [`ImageError::Io`].
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        if end.is_none() {
            let what = format!("byte {at} and those after it are not there");
            return Err(ImageError::Truncated(what));
        }
        let place = self.start + at;
        match &self.source {
            Source::Memory(bytes) => {
                let from = usize::try_from(place).unwrap_or(usize::MAX);
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                Ok(())
            }
            Source::Over(overlay) => overlay.read_at(buffer, place),
            Source::File(file) => file.0.read_exact_at(buffer, place).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    ImageError::Truncated("it became shorter while it was read".to_owned())
                }
                _ => ImageError::io("read", &file.1, error),
            }),
        }
    }

    /// Up to `most` bytes from `at` on; fewer where it ends before.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn bytes(&self, at: u64, most: usize) -> Result<Vec<u8>> {
        let left = self.length.saturating_sub(at);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
        self.read_at(&mut bytes, at.min(self.length))?;
        Ok(bytes)
    }

    /// Whether there are bytes at `at`, and for how many bytes that is so; where the host's file system does not tell,
    /// all of it is.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub(crate) fn has_data(&self, at: u64) -> Result<(bool, u64)> {
        let left = self.length.saturating_sub(at);
        let Source::File(file) = &self.source else { return Ok((true, left)) };
        let seek = |to| match rustix::fs::seek(&file.0, to) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NXIO | Errno::INVAL) => Ok(None),
            Err(errno) => Err(ImageError::io("read", &file.1, errno.into())),
        };
        let place = self.start + at;
        let cut = |to: u64| to.saturating_sub(place).clamp(1, left.max(1));
        Ok(match seek(SeekFrom::Data(place))? {
            None => (file.0.metadata().is_ok_and(|file| file.len() <= place), left),
            Some(data) if data > place => (false, cut(data)),
            Some(_) => (true, seek(SeekFrom::Hole(place))?.map_or(left, cut)),
        })
    }
}
