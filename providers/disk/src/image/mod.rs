//! Disk images, opened read-only as bytes at places.
//!
//! Raw images are read as they are. qcow2 images (versions 2 and 3) are read by `imago` once their header and tables
//! have been looked at; what an image says of other files is followed only as far as [`Backing`] allows, as an image
//! from anywhere could otherwise name any file of the host.

mod check;
pub(crate) mod header;
mod probe;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};
use posada_provider_api::DiskFormat;

use crate::DiskError;
use header::Header;

pub use probe::{ENOUGH, Found, probe};

/// Largest disk, bytes: 64 TiB.
pub const MAX_DISK: u64 = 64 << 40;
/// Longest chain of backing files.
const MAX_CHAIN: usize = 16;

/// What is done where an image stands on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing<'a> {
    /// It is refused: for images from anywhere.
    Refused,
    /// The file it names is opened, and the file that one names: for images of our own.
    Followed,
    /// These are opened in place of those it names, the next one first.
    Given(&'a [PathBuf]),
}

/// A disk image, open for reading. Clones share what is open.
#[derive(Debug, Clone)]
pub struct Image {
    path: PathBuf,
    format: DiskFormat,
    size: u64,
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    Raw(File),
    Qcow2(FormatAccess<Storage>),
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(Vec<u8>),
}

impl Image {
    /// Opens the image at `path`, whose format is seen by its first bytes.
    ///
    /// # Errors
    /// All of [`DiskError`] but `TooSmall` and `Full`. That a file is no disk at all is seen when its partitions are
    /// read.
    pub fn open(path: &Path, backing: Backing<'_>) -> Result<Self, DiskError> {
        let (format, size) = look(path)?;
        let bytes = match format {
            DiskFormat::Raw => Bytes::Raw(open_file(path)?),
            DiskFormat::Qcow2 => Bytes::Qcow2(Chain::new(backing).open(path, format)?),
        };
        Ok(Self { path: path.to_owned(), format, size, bytes: Arc::new(bytes) })
    }

    /// An image that is in memory.
    #[cfg(any(test, feature = "fuzzing"))]
    #[must_use]
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self { path: "memory".into(), format: DiskFormat::Raw, size, bytes: Arc::new(Bytes::Memory(bytes)) }
    }

    /// Looks at all that an image says of where its bytes are, and whether they are there: slower than opening it,
    /// and to be done once for an image that comes from anywhere. Nothing is to look at in a raw image.
    ///
    /// # Errors
    /// [`DiskError::Corrupt`], [`DiskError::Truncated`], [`DiskError::Io`].
    pub fn check(&self) -> Result<(), DiskError> {
        match self.format {
            DiskFormat::Raw => Ok(()),
            DiskFormat::Qcow2 => check::tables(&self.path),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is laid out.
    #[must_use]
    pub fn format(&self) -> DiskFormat {
        self.format
    }

    /// How large the disk is, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with the disk's bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] beyond the disk's end, and what the host says.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the disk's end"));
        }
        match &*self.bytes {
            Bytes::Raw(file) => file.read_exact_at(buffer, offset),
            Bytes::Qcow2(image) => image.read(buffer, offset),
            #[cfg(any(test, feature = "fuzzing"))]
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
        }
    }
}

/// The files an image consists of, as they are opened.
struct Chain<'a> {
    backing: Backing<'a>,
    /// Device and inode of each file.
    seen: Vec<(u64, u64)>,
}

impl<'a> Chain<'a> {
    fn new(backing: Backing<'a>) -> Self {
        Self { backing, seen: Vec::new() }
    }

    fn open(&mut self, path: &Path, format: DiskFormat) -> Result<FormatAccess<Storage>, DiskError> {
        let file = open_file(path)?;
        let stat = file.metadata().map_err(|error| DiskError::io("read", path, error))?;
        let identity = (stat.dev(), stat.ino());
        if self.seen.contains(&identity) || self.seen.len() == MAX_CHAIN {
            return Err(DiskError::BackingLoop { path: path.to_owned() });
        }
        self.seen.push(identity);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                DiskError::corrupt(path, error.to_string())
            }
            io::ErrorKind::Unsupported => {
                DiskError::Unsupported { path: path.to_owned(), what: error.to_string() }
            }
            _ => DiskError::io("open", path, error),
        };
        if format == DiskFormat::Raw {
            let storage = Storage::try_from(file).map_err(failed)?;
            return Ok(FormatAccess::new(Raw::open_image(storage, false).map_err(failed)?));
        }
        let header = Header::read(&file, path)?;
        let below = match &header.backing {
            Some(named) => {
                let below = self.next(path, named)?;
                let (format, _) = look(&below).map_err(|error| match error {
                    DiskError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                        DiskError::BackingMissing { path: path.to_owned(), backing: below.clone() }
                    }
                    other => other,
                })?;
                // A guest that could write a qcow2 header into its raw disk must not choose what is read below it.
                let format = header.backing_format.unwrap_or(format);
                Some(Arc::new(self.open(&below, format)?))
            }
            None => None,
        };
        let storage = Storage::try_from(file).map_err(failed)?;
        let image = Qcow2::<Storage, Arc<FormatAccess<Storage>>>::builder(storage)
            .backing(below)
            .open(DenyImplicitOpenGate::default())
            .map_err(failed)?;
        Ok(FormatAccess::new(image))
    }

    /// The file that is opened below the one at `path`, which names `named`.
    fn next(&mut self, path: &Path, named: &str) -> Result<PathBuf, DiskError> {
        match self.backing {
            Backing::Refused => {
                Err(DiskError::HasBacking { path: path.to_owned(), backing: named.to_owned() })
            }
            Backing::Followed => Ok(path.parent().unwrap_or(Path::new("/")).join(named)),
            Backing::Given(paths) => paths
                .get(self.seen.len() - 1)
                .cloned()
                .ok_or_else(|| DiskError::HasBacking { path: path.to_owned(), backing: named.to_owned() }),
        }
    }
}

/// Opens a regular file without waiting, as a pipe would have us do.
fn open_file(path: &Path) -> Result<File, DiskError> {
    const O_NONBLOCK: i32 = 0o4000;
    let opened = File::options().read(true).custom_flags(O_NONBLOCK).open(path);
    let file = opened.map_err(|error| DiskError::io("open", path, error))?;
    let stat = file.metadata().map_err(|error| DiskError::io("read", path, error))?;
    if stat.is_file() {
        Ok(file)
    } else {
        Err(DiskError::NotADisk { path: path.to_owned(), what: "it is no regular file".to_owned() })
    }
}

/// Format and size of the disk in the file at `path`.
fn look(path: &Path) -> Result<(DiskFormat, u64), DiskError> {
    let file = open_file(path)?;
    let length = file.metadata().map_err(|error| DiskError::io("read", path, error))?.len();
    let mut start = vec![0; probe::ENOUGH.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut start, 0).map_err(|error| DiskError::io("read", path, error))?;
    let (format, size) = match probe(&start) {
        Some(Found::Foreign(format)) => return Err(DiskError::Foreign { path: path.to_owned(), format }),
        Some(Found::Disk(DiskFormat::Qcow2)) => (DiskFormat::Qcow2, Header::read(&file, path)?.size),
        // Whether there is anything on it is seen when its partitions are read.
        Some(Found::Disk(DiskFormat::Raw)) | None => (DiskFormat::Raw, length),
    };
    if size == 0 {
        return Err(DiskError::NotADisk { path: path.to_owned(), what: "it is empty".to_owned() });
    }
    if size > MAX_DISK {
        let what = format!("a disk of {} TiB, where {} are the limit", size >> 40, MAX_DISK >> 40);
        return Err(DiskError::Absurd { path: path.to_owned(), what });
    }
    Ok((format, size))
}
