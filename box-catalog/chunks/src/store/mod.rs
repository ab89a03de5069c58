//! Chunks in a directory.
//!
//! ```text
//! lock                    held (flock) shared by who adds, and by nobody else while chunks are collected
//! entering                held (flock) while a directory of `adding` appears, or abandoned ones go
//! data/<2 digits>/<62>    one chunk: a Zstandard frame, named by the BLAKE3 digest of what is in it
//! adding/<id>/            chunks on their way in; locked (flock, shared) by who adds them
//! ```
//! Chunks appear under their names once they are on the disk for good: all that an [`Adder`] has brought is written out
//! by one `syncfs`, and then renamed. So no chunk needs an `fsync` of its own, and after a loss of power a chunk that is
//! there is whole. A file for each chunk costs some 0.1 ms more of each than a place in a large one would (0.6 s against
//! 0.2 s to write 8,000 of them, 0.2 s against 0.04 s to read them); for that nothing is indexed, held in memory, or packed
//! anew when chunks go. Locks are the kernel's and die with their holders.

mod adder;
mod assemble;
mod content;
mod fsck;
mod gc;
mod pool;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use adder::{Adder, Kept};
pub use content::Feed;
pub use fsck::{Damage, Fsck};
pub use gc::Collected;

use crate::{Digest, Error, MAX_CHUNK, Manifest};

/// How hard chunks are compressed.
const LEVEL: i32 = 3;

/// Chunks in a directory, each once; for many processes at once.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    root: PathBuf,
}

impl ChunkStore {
    /// Opens the store in the directory `root`, making it where there is none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        let store = Self { root: root.to_owned() };
        for directory in [root.to_owned(), store.data(), store.adding()] {
            make_directory(&directory)?;
        }
        Ok(store)
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn adding(&self) -> PathBuf {
        self.root.join("adding")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (shelf, rest) = name.split_at(2);
        self.data().join(shelf).join(rest)
    }

    fn open_lock(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.root.join(name);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|error| Error::io("open", &path, error))?;
        Ok((path, file))
    }

    /// Whether the chunk is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        path.try_exists().map_err(|error| Error::io("look for", path, error))
    }

    /// The chunks of `manifest` that are not there, each once, with their lengths.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn missing(&self, manifest: &Manifest) -> Result<Vec<(Digest, u32)>, Error> {
        let mut missing = Vec::new();
        for (digest, length) in manifest.distinct() {
            if !self.has(&digest)? {
                missing.push((digest, length));
            }
        }
        Ok(missing)
    }

    /// A chunk's bytes, which were found to be right.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Io`].
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let frame = self.get_compressed(digest)?;
        unpack(digest, &frame).map_err(|what| Error::Damaged { digest: *digest, what })
    }

    /// A chunk as it is kept: a Zstandard frame, which nobody has looked at.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Io`].
    pub fn get_compressed(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        std::fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Missing(*digest),
            _ => Error::io("read", path, error),
        })
    }

    /// Keeps one chunk; for more, see [`ChunkStore::adder`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::DiskFull`], [`Error::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let adder = self.adder()?;
        let digest = adder.put(bytes)?;
        adder.commit()?;
        Ok(digest)
    }

    /// All chunks, in the order of their digests, with the bytes that each takes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let mut chunks = Vec::new();
        for shelf in sorted(&self.data())? {
            for path in sorted(&self.data().join(&shelf))? {
                let name = format!("{shelf}{path}");
                let Some(digest) = Digest::parse(&name) else { continue };
                let path = self.path(&digest);
                match std::fs::symlink_metadata(&path) {
                    Ok(stat) => chunks.push((digest, stat.len())),
                    // It was just collected.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("look at", path, error)),
                }
            }
        }
        Ok(chunks)
    }
}

/// Names in a directory, in order.
fn sorted(directory: &Path) -> Result<BTreeSet<String>, Error> {
    let failed = |error| Error::io("read", directory, error);
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    entries
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect::<Result<_, _>>()
        .map_err(failed)
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::io("make", path, error))
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    zstd::bulk::compress(bytes, LEVEL)
}

/// What is in a frame, once it is what it is called.
fn unpack(digest: &Digest, frame: &[u8]) -> Result<Vec<u8>, String> {
    let bytes = zstd::bulk::decompress(frame, MAX_CHUNK).map_err(|error| error.to_string())?;
    match Digest::of(&bytes) {
        found if found == *digest => Ok(bytes),
        found => Err(format!("it has become {found}")),
    }
}
