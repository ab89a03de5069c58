//! A disk image of any format, opened with all that lies behind it.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use super::qcow2::Qcow2;
use super::raw::Raw;
use super::{Buffers, Engine, FaultSink, OpenError, lock};
use crate::config::DiskFormat;

/// How an image is opened.
#[derive(Debug, Clone)]
pub struct ImageOptions<'a> {
    /// The image.
    pub path: &'a Path,
    /// Its format.
    pub format: DiskFormat,
    /// Whether it is only read.
    pub read_only: bool,
    /// The files that it may have behind it, in any order. An image whose header names another is refused.
    pub backing: &'a [PathBuf],
}

/// An open image. It is locked as long as it is open: a second writer is refused.
pub struct Image {
    layer: Layer,
    path: PathBuf,
    read_only: bool,
    engine: Arc<Engine>,
    sink: Option<FaultSink>,
    _lock: File,
}

impl Image {
    /// Opens an image, for the I/O of which `engine` serves. Faults at run time are told to `sink`.
    ///
    /// # Errors
    /// Each reason is a variant of its own.
    pub fn open(
        options: &ImageOptions<'_>,
        engine: Arc<Engine>,
        sink: Option<FaultSink>,
    ) -> Result<Self, OpenError> {
        let path = options.path;
        let file = open_file(path, options.read_only)?;
        // An open file of its own: io_uring lets go of the one it works on only some time after the process has died.
        let lock = open_file(path, options.read_only)?;
        if !lock::take(&lock, !options.read_only).map_err(|error| OpenError::io(path, error))? {
            return Err(OpenError::Locked { path: path.to_owned() });
        }
        let layer = match options.format {
            DiskFormat::Raw => Layer::Raw(Raw::open(path, file, engine.clone())?),
            DiskFormat::Qcow2 => Layer::Qcow2(Box::new(Qcow2::open(
                path,
                file,
                options.read_only,
                &mut options.backing.to_vec(),
                &engine,
            )?)),
        };
        Ok(Self { layer, path: path.to_owned(), read_only: options.read_only, engine, sink, _lock: lock })
    }

    /// Size of the disk in bytes; what is not a whole sector of 512 bytes is left out.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layer.size() & !511
    }

    /// Whether it is only read.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// What serves its I/O.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Bytes that are best discarded together, aligned to their number.
    #[must_use]
    pub fn granularity(&self) -> u32 {
        match &self.layer {
            Layer::Raw(_) => 4096,
            Layer::Qcow2(image) => image.cluster_size(),
        }
    }

    /// Reads from `offset`; the range must lie in the disk.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidData` for an image that makes no sense.
    pub async fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let result = match &self.layer {
            Layer::Raw(image) => image.read(offset, buffers).await,
            Layer::Qcow2(image) => image.read(offset, buffers).await,
        };
        self.told(result)
    }

    /// Writes at `offset`; the range must lie in the disk.
    ///
    /// # Errors
    /// As for [`read`](Self::read). The image stays consistent.
    pub async fn write(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let result = match &self.layer {
            Layer::Raw(image) => image.write(offset, buffers).await,
            Layer::Qcow2(image) => image.write(offset, buffers).await,
        };
        self.told(result)
    }

    /// Makes all writes that have ended durable.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn flush(&self) -> io::Result<()> {
        let result = match &self.layer {
            _ if self.read_only => Ok(()),
            Layer::Raw(image) => image.flush().await,
            Layer::Qcow2(image) => image.flush().await,
        };
        self.told(result)
    }

    /// Makes all durable, before the image is left alone for long.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn settle(&self) -> io::Result<()> {
        match &self.layer {
            Layer::Qcow2(image) if !self.read_only => self.told(image.settle().await),
            _ => self.flush().await,
        }
    }

    /// Gives the space of a range back where that is possible; what is then read from it is undefined.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let result = match &self.layer {
            Layer::Raw(image) => image.discard(offset, len).await,
            Layer::Qcow2(image) => image.discard(offset, len).await,
        };
        self.told(result)
    }

    /// Makes a range read as zeros; with `unmap` its space may be given back.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let result = match &self.layer {
            Layer::Raw(image) => image.write_zeroes(offset, len, unmap).await,
            Layer::Qcow2(image) => image.write_zeroes(offset, len, unmap).await,
        };
        self.told(result)
    }

    fn told(&self, result: io::Result<()>) -> io::Result<()> {
        if let (Err(error), Some(sink)) = (&result, &self.sink) {
            sink.report(&self.path, error);
        }
        result
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("path", &self.path).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// One file of a chain.
pub(super) enum Layer {
    Raw(Raw),
    Qcow2(Box<Qcow2>),
}

impl Layer {
    /// Opens a backing file, which is only read. `allowed` are those that may still be used: each once, so that no
    /// chain has a loop.
    pub fn open_backing(
        path: &Path,
        format: DiskFormat,
        allowed: &mut Vec<PathBuf>,
        engine: &Arc<Engine>,
    ) -> Result<Self, OpenError> {
        let file = open_file(path, true)?;
        Ok(match format {
            DiskFormat::Raw => Self::Raw(Raw::open(path, file, engine.clone())?),
            DiskFormat::Qcow2 => Self::Qcow2(Box::new(Qcow2::open(path, file, true, allowed, engine)?)),
        })
    }

    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(image) => image.size(),
            Self::Qcow2(image) => image.size(),
        }
    }

    /// Reads as a backing file: what lies behind its end is zero.
    pub fn read_backing<'a>(
        &'a self,
        offset: u64,
        buffers: &'a Buffers,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let inside = self.size().saturating_sub(offset).min(buffers.len() as u64) as usize;
            buffers.zero(inside, usize::MAX);
            if inside == 0 {
                return Ok(());
            }
            let part = buffers.slice(0, inside);
            match self {
                Self::Raw(image) => image.read(offset, &part).await,
                Self::Qcow2(image) => image.read(offset, &part).await,
            }
        })
    }
}

fn open_file(path: &Path, read_only: bool) -> Result<File, OpenError> {
    let opened = OpenOptions::new().read(true).write(!read_only).open(path);
    opened.map_err(|error| OpenError::io(path, error))
}
