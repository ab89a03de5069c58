//! How chunks come in.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{ChunkStore, compress, make_directory, sorted, unpack};
use crate::{Digest, Error, MAX_CHUNK};

/// Brings chunks into a store, from any number of threads. As long as it lives, and what [`Adder::commit`] makes of it,
/// nothing is collected. Chunks that it brought are in the store once it is committed; where it is dropped, they go.
#[derive(Debug)]
pub struct Adder {
    store: ChunkStore,
    directory: PathBuf,
    /// Holds the lock that says somebody is at work here.
    _held: File,
    lock: File,
    brought: Mutex<HashSet<Digest>>,
}

/// Keeps chunks from being collected, until what needs them says so itself.
#[derive(Debug)]
pub struct Kept {
    _lock: File,
}

impl ChunkStore {
    /// Begins to add chunks; waits while chunks are collected.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn adder(&self) -> Result<Adder, Error> {
        let (path, lock) = self.open_lock("lock")?;
        lock.lock_shared().map_err(|error| Error::io("lock", path, error))?;
        let (path, entering) = self.open_lock("entering")?;
        entering.lock().map_err(|error| Error::io("lock", path, error))?;
        self.sweep()?;
        let directory = tempfile::Builder::new().prefix("").tempdir_in(self.adding());
        let directory = directory.map_err(|error| Error::io("make", self.adding(), error))?.keep();
        let failed = |error| Error::io("lock", &directory, error);
        let held = File::open(&directory).map_err(failed)?;
        held.lock_shared().map_err(failed)?;
        Ok(Adder { store: self.clone(), directory, _held: held, lock, brought: Mutex::default() })
    }

    /// Removes what crashes have left. `entering` is held.
    fn sweep(&self) -> Result<(), Error> {
        for name in sorted(&self.adding())? {
            let path = self.adding().join(name);
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| Error::io("open", &path, error))?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => remove(&path)?,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(Error::io("lock", path, errno.into())),
            }
        }
        Ok(())
    }
}

fn remove(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", directory, error))
        }
        _ => Ok(()),
    }
}

impl Adder {
    /// The store that it adds to.
    #[must_use]
    pub fn store(&self) -> &ChunkStore {
        &self.store
    }

    /// Keeps a chunk.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::DiskFull`], [`Error::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        if bytes.len() > MAX_CHUNK {
            return Err(Error::TooLarge(bytes.len()));
        }
        let digest = Digest::of(bytes);
        self.keep(&digest, || {
            compress(bytes).map_err(|error| Error::io("compress", &self.directory, error))
        })?;
        Ok(digest)
    }

    /// Keeps a chunk that comes compressed, as [`ChunkStore::get_compressed`] gives it, once it was found to be what
    /// it is called.
    ///
    /// # Errors
    /// [`Error::Mismatch`], [`Error::DiskFull`], [`Error::Io`].
    pub fn put_compressed(&self, digest: &Digest, frame: &[u8]) -> Result<(), Error> {
        let bytes = unpack(digest, frame).map_err(|what| Error::Mismatch { wanted: *digest, what })?;
        // Other bytes after the frame, or a poor compression, do not come in.
        self.keep(digest, || compress(&bytes).map_err(|error| Error::io("compress", &self.directory, error)))
    }

    /// Whether the chunk is there, or was brought.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner).contains(digest);
        Ok(brought || self.store.has(digest)?)
    }

    fn keep(&self, digest: &Digest, frame: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<(), Error> {
        // Said before it is done, so that no two threads do it. Where it fails, nothing is committed.
        if self.store.has(digest)?
            || !self.brought.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest)
        {
            return Ok(());
        }
        let path = self.directory.join(digest.to_string());
        let written = frame().and_then(|frame| {
            let file = File::options().write(true).create_new(true).open(&path);
            file.and_then(|mut file| file.write_all(&frame)).map_err(|error| Error::io("write", &path, error))
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&path);
            self.brought.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        }
        written
    }

    /// Has all that was brought written to the disk for good, and puts it in its place. Until what comes back is
    /// dropped, nothing is collected: time to write down, for good as well, what the chunks are needed for.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn commit(self) -> Result<Kept, Error> {
        let brought = std::mem::take(&mut *self.brought.lock().unwrap_or_else(PoisonError::into_inner));
        let lock = self.lock.try_clone().map_err(|error| Error::io("open", self.store.root(), error))?;
        if brought.is_empty() {
            return Ok(Kept { _lock: lock });
        }
        rustix::fs::syncfs(&self._held).map_err(|errno| Error::io("sync", &self.directory, errno.into()))?;
        let mut shelves = BTreeSet::new();
        for digest in &brought {
            let target = self.store.path(digest);
            if let Some(shelf) = target.parent()
                && shelves.insert(shelf.to_owned())
            {
                make_directory(shelf)?;
            }
            std::fs::rename(self.directory.join(digest.to_string()), &target)
                .map_err(|error| Error::io("make", &target, error))?;
        }
        shelves.insert(self.store.data());
        for shelf in shelves {
            let synced = File::open(&shelf).and_then(|shelf| shelf.sync_all());
            synced.map_err(|error| Error::io("sync", &shelf, error))?;
        }
        Ok(Kept { _lock: lock })
    }
}

impl Drop for Adder {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted by the next adder.
        let _ = remove(&self.directory);
    }
}
