//! Box files: of a machine, and of what lies in the store.

mod archive;
pub(crate) mod bundle;
mod clean;
mod merge;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use posada_image::{Backing, Format, Machine, Options, Output, Told};
use posada_provider_api::{Content, OverlayTree};

pub use clean::{SEAL, script as cleaning_script};

pub(crate) use archive::{Job, Purpose, write as write_archive};

use crate::{BoxError, Cancel, Progress, Store, StoredBox, worker};

/// A compromise for data of which most is compressed well by any level.
const LEVEL: Compression = Compression::new(4);
/// Bytes of one piece.
const PIECE: usize = 256 * 1024;

/// What box file a machine becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Who logs in.
    pub user: String,
    /// What machines it is for, as Debian names it.
    pub architecture: Option<String>,
    /// The file.
    pub output: PathBuf,
    /// Whether it takes the place of a file that is there.
    pub replace: bool,
}

impl Store {
    /// Packs what a machine holds that does not run, as Vagrant's boxes are: trees for LXC, without what is the
    /// machine's own; a disk for libvirt, as it is (see [`cleaning_script`]). The file appears as a whole. Returns its length, bytes.
    ///
    /// # Errors
    /// [`BoxError::FileThere`], [`BoxError::Image`], [`BoxError::Worker`], [`BoxError::DiskFull`], [`BoxError::Cancelled`].
    pub fn package(
        &self,
        content: &Content,
        wanted: &Package,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u64, BoxError> {
        wanted.check()?;
        let output = &wanted.output;
        let failed = |source| BoxError::image(output, source);
        let architecture = wanted.architecture.as_deref();
        self.scratch(|scratch| {
            let out = Output::create(output).map_err(failed)?;
            let written = match content {
                Content::Trees(trees) => {
                    let inner = scratch.path().join(bundle::ROOTFS);
                    self.pack_trees(trees, &wanted.user, &inner, progress, cancel)?;
                    progress.phase("writing", None);
                    bundle::rootfs(&inner, architecture, Checked { out: out.file(), cancel })
                }
                Content::Disk(path) => {
                    let image = scratch.path().join(bundle::DISK);
                    let size = flatten(path, &image, progress, cancel)?;
                    let length =
                        std::fs::metadata(&image).map_err(|error| BoxError::io("read", &image, error))?;
                    progress.phase("compressing", Some(length.len()));
                    let told = Checked { out: BufWriter::new(out.file()), cancel };
                    let mut packer = GzEncoder::new(told, LEVEL);
                    let counted = Counted { out: &mut packer, progress };
                    bundle::disk(&image, size, architecture, counted)
                        .and_then(|()| packer.finish()?.out.flush())
                }
            };
            written.map_err(|error| {
                if cancel.is_cancelled() { BoxError::Cancelled } else { BoxError::io("write", output, error) }
            })?;
            let length = out.file().metadata().map_err(|error| BoxError::io("write", output, error))?.len();
            out.finish().map_err(failed)?;
            Ok(length)
        })
    }

    /// Packs trees into the archive `file`, by a process that may read them.
    fn pack_trees(
        &self,
        trees: &[OverlayTree],
        user: &str,
        file: &Path,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), BoxError> {
        progress.phase("packing", None);
        let job = Job { trees: trees.to_vec(), purpose: Purpose::Machine { user: user.to_owned() } };
        let failed = |error| BoxError::io("write", file, error);
        let mut out = GzEncoder::new(BufWriter::new(File::create(file).map_err(failed)?), LEVEL);
        worker::pack(self.exe(), &job, cancel, |archive| {
            let mut piece = vec![0; PIECE];
            loop {
                let count = archive.read(&mut piece)?;
                if count == 0 {
                    return Ok(());
                }
                out.write_all(&piece[..count])?;
                progress.advance(count as u64);
            }
        })?;
        out.finish().and_then(|mut out| out.flush()).map_err(failed)
    }
}

impl StoredBox {
    /// How its root file system is packed as it is, where it holds one.
    pub(crate) fn tree_job(&self) -> Option<Job> {
        // Where they are packed, its owners are plain ids.
        let tree = |path| OverlayTree { path, first_uid: 0, first_gid: 0 };
        self.rootfs().map(|path| Job { trees: vec![tree(path)], purpose: Purpose::Box })
    }
}

impl Package {
    /// Whether the file can come into being.
    ///
    /// # Errors
    /// [`BoxError::FileThere`].
    pub fn check(&self) -> Result<(), BoxError> {
        if !self.replace && std::fs::symlink_metadata(&self.output).is_ok() {
            return Err(BoxError::FileThere(self.output.clone()));
        }
        Ok(())
    }
}

/// Writes the disk that lies in the image at `path` and those below it into one qcow2 image; its size comes back, bytes.
fn flatten(path: &Path, image: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<u64, BoxError> {
    let (_, disk) =
        posada_image::open(path, Backing::Followed).map_err(|source| BoxError::image(path, source))?;
    progress.phase("packing", Some(disk.size()));
    let options =
        Options { stream_optimized: false, machine: Machine { name: String::new(), cpus: 1, memory: 0 } };
    let told = Told { progress: &|bytes| progress.advance(bytes), cancelled: &|| cancel.is_cancelled() };
    posada_image::write(Format::Qcow2, disk.as_ref(), image, &options, told)
        .map_err(|source| BoxError::image(image, source))?;
    Ok(disk.size())
}

/// Writes until it is cancelled.
struct Checked<'a, W> {
    out: W,
    cancel: &'a Cancel,
}

impl<W: Write> Write for Checked<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Tells what it is given.
struct Counted<'a, W> {
    out: W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.progress.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
