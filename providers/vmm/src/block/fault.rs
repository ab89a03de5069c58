//! What can go wrong with an image, when it is opened and later.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why an image cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel does not let us.
    #[error("cannot open the disk image {}", path.display())]
    Io {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process or the host has no descriptor left.
    #[error("cannot open the disk image {}: too many files are open", path.display())]
    TooManyFiles {
        /// The image.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("the disk image {} is in use by another process", path.display())]
    Locked {
        /// The image.
        path: PathBuf,
    },
    /// It is not what it is said to be, or damaged.
    #[error("the disk image {} is damaged or no qcow2 image: {what}", path.display())]
    Corrupt {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It uses something of its format that is not done here.
    #[error("the disk image {} uses {what}, which is not supported", path.display())]
    Unsupported {
        /// The image.
        path: PathBuf,
        /// What it uses.
        what: String,
    },
    /// It was not closed properly by a program that relies on a repair afterwards.
    #[error("the disk image {} needs a repair: run `qemu-img check -r all` on it", path.display())]
    NeedsRepair {
        /// The image.
        path: PathBuf,
    },
    /// Its header names a backing file that it was not said to have.
    #[error(
        "the disk image {} names {} as its backing file, which is not among those it may use",
        path.display(),
        backing.display()
    )]
    ForeignBacking {
        /// The image.
        path: PathBuf,
        /// What its header names.
        backing: PathBuf,
    },
    /// The engine cannot be had.
    #[error("cannot set up disk I/O")]
    Engine(#[source] io::Error),
}

impl OpenError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::TooManyFiles { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// What a user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooManyFiles { .. } | Self::Engine(_) => {
                Some("raise the limit of open files (`ulimit -n`), or stop other machines")
            }
            Self::Locked { .. } => Some("end the program that uses it; no two may write one image"),
            Self::Unsupported { .. } => Some("convert it with `qemu-img convert -O qcow2`"),
            _ => None,
        }
    }
}

/// What a running image has to tell its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockFault {
    /// The file system of the image is full; the guest sees failing writes.
    DiskFull {
        /// The image.
        path: PathBuf,
    },
    /// The image's metadata makes no sense; the guest sees failing requests.
    Corrupt {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The host fails to read or write.
    Io {
        /// The image.
        path: PathBuf,
        /// What the kernel said.
        error: String,
    },
}

impl fmt::Display for BlockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull { path } => write!(
                f,
                "there is no room left for {}: the machine's writes fail; free some space on the host",
                path.display()
            ),
            Self::Corrupt { path, what } => {
                write!(f, "{} is damaged ({what}): the machine's disk fails there", path.display())
            }
            Self::Io { path, error } => {
                write!(f, "{} cannot be read or written: {error}", path.display())
            }
        }
    }
}

/// Who is told of faults of a running image; each kind is told once.
#[derive(Clone)]
pub struct FaultSink {
    state: Arc<Mutex<Sink>>,
}

struct Sink {
    tell: Box<dyn Fn(BlockFault) + Send>,
    told: [bool; 3],
}

impl FaultSink {
    /// Calls `tell` at the first fault of each kind.
    pub fn new(tell: Box<dyn Fn(BlockFault) + Send>) -> Self {
        Self { state: Arc::new(Mutex::new(Sink { tell, told: [false; 3] })) }
    }

    pub(super) fn report(&self, path: &Path, error: &io::Error) {
        let path = path.to_owned();
        let (kind, fault) = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => (0, BlockFault::DiskFull { path }),
            None if error.kind() == io::ErrorKind::InvalidData => {
                (1, BlockFault::Corrupt { path, what: error.to_string() })
            }
            _ => (2, BlockFault::Io { path, error: error.to_string() }),
        };
        let mut sink = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut sink.told[kind], true) {
            (sink.tell)(fault);
        }
    }
}

impl std::fmt::Debug for FaultSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultSink")
    }
}
