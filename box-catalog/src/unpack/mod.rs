//! Unpacking an archive that may come from anywhere into a tree that is safe to run: one pass, bounded memory.

mod compression;
mod direct;
mod disk;
mod foreign;
mod from_disk;
mod from_tree;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hide;
mod image;
mod inspect;
mod layers;
mod pax;
mod pump;
mod refusal;
mod sparse;
mod squashfs;
mod tar_stream;
mod tree;
mod vagrant;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use from_disk::tree_of_disk;
pub use from_tree::disk_of_tree;
pub use layers::Feed;
pub use refusal::Refusal;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::disk::DiskRecord;
use crate::{BoxMetadata, Digest, Form, KernelUnpacker};
use compression::Content;
use pump::Pumped;
use tar_stream::{Kind, TarStream};
use tree::{Made, Tree};

/// Name of the tree in the directory that it is unpacked in.
pub const TREE: &str = "rootfs";

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes in all files.
    pub bytes: u64,
    /// Most entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Length of the archive, bytes.
    pub archive_size: u64,
    /// Bytes in all files of the tree.
    pub size: u64,
    /// What the tree says of itself.
    pub metadata: BoxMetadata,
    /// The disk image, where it holds one.
    #[serde(default)]
    pub disk: Option<DiskRecord>,
    /// Device nodes outside of `/dev` that were left out.
    pub skipped_devices: u64,
    /// What whoever uses it should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Unpacks the file `input`, as [`unpack`] does; a disk image in it that is not compressed is taken without a copy in between.
///
/// # Errors
/// Those of [`unpack`].
pub fn unpack_file(
    input: File,
    limits: Limits,
    user: Option<&str>,
    form: Form,
    kernels: KernelUnpacker,
    seen: impl FnMut(u64) + Send + 'static,
) -> Result<Unpacked, Refusal> {
    if !direct::is_image(&input)? {
        return unpack(input, limits, user, form, kernels, seen);
    }
    let read = direct::write(input, limits.bytes, seen)?;
    as_disk(user, false, kernels, limits.bytes, &read)
}

/// Unpacks `input` into the new directory [`TREE`] of the current directory, or takes it as a disk image, and writes it
/// to disk.
/// Where `form` is a disk, a root file system is made into one. `user`, where given, is who logs in; a kernel found on a disk is kept as `kernels` unpacks it; `seen` hears of every chunk of the archive that was read, bytes.
///
/// # Errors
/// [`Refusal`] with the tree left as far as it came; the caller removes it.
pub fn unpack(
    input: impl Read + Send + 'static,
    limits: Limits,
    user: Option<&str>,
    form: Form,
    kernels: KernelUnpacker,
    seen: impl FnMut(u64) + Send + 'static,
) -> Result<Unpacked, Refusal> {
    let (reader, pump) = pump::pump(input, seen);
    let mut writing = Writing::begin(limits)?;
    let found = match compression::content(reader)? {
        Content::Archive(archive) => writing.archive(TarStream::new(archive))?,
        Content::Disk(mut image) => {
            disk::write(&mut image, limits.bytes)?;
            Holds::Disk { vagrant: false }
        }
        Content::Squashfs(mut image) => {
            // Its tables stand at its end.
            disk::write(&mut image, limits.bytes)?;
            writing.squashfs()?;
            Holds::Rootfs
        }
    };
    let pumped = pump.join().map_err(|_| Refusal::Corrupt("the reader failed".to_owned()))?;
    let pumped = pumped.map_err(|error| Refusal::reading(&error))?;
    if matches!(found, Holds::Rootfs | Holds::Layers) && writing.entries == 0 {
        return Err(Refusal::Empty);
    }
    match (found, form) {
        (Holds::Disk { vagrant }, _) => {
            remove_tree()?;
            as_disk(user, vagrant, kernels, limits.bytes, &pumped)
        }
        (found @ (Holds::Rootfs | Holds::Layers), form) => {
            let metadata = inspect::inspect(writing.tree.root(), user);
            let metadata = metadata.map_err(|refusal| match refusal {
                Refusal::NoRootfs(why) if found == Holds::Layers => Refusal::NoInit(why),
                refusal => refusal,
            })?;
            if form == Form::Rootfs {
                return writing.finish(metadata, &pumped);
            }
            let root = writing.tree.finish()?;
            let failed = |errno| Refusal::writing(TREE.as_bytes(), errno);
            let time = rustix::fs::fstat(&root).map_err(failed)?.st_mtime;
            image::write(&[Path::new(TREE)], disk::PART, image::DISK, &pumped.digest, time)?;
            remove_tree()?;
            as_disk(user, false, kernels, limits.bytes, &pumped)
        }
    }
}

/// A tree that is not, or no longer, needed.
fn remove_tree() -> Result<(), Refusal> {
    std::fs::remove_dir_all(TREE)
        .map_err(|error| Refusal::Host { entry: TREE.to_owned(), detail: error.to_string() })
}

/// Takes the image that was written.
fn as_disk(
    user: Option<&str>,
    vagrant: bool,
    kernels: KernelUnpacker,
    limit: u64,
    pumped: &Pumped,
) -> Result<Unpacked, Refusal> {
    let taken = disk::take(user, vagrant, kernels, limit)?;
    let here = rustix::fs::open(".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    here.and_then(rustix::fs::syncfs).map_err(|errno| Refusal::writing(TREE.as_bytes(), errno))?;
    Ok(Unpacked {
        digest: pumped.digest,
        archive_size: pumped.size,
        size: taken.size,
        metadata: taken.metadata,
        disk: Some(taken.record),
        skipped_devices: 0,
        notes: taken.notes,
    })
}

/// What an archive turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Rootfs,
    /// A root file system in layers.
    Layers,
    /// A disk image; `vagrant` says that it came in a Vagrant box.
    Disk {
        vagrant: bool,
    },
}

struct Writing {
    tree: Tree,
    limits: Limits,
    bytes: u64,
    entries: u64,
    skipped_devices: u64,
}

impl Writing {
    /// Makes the directory [`TREE`] in the current directory.
    fn begin(limits: Limits) -> Result<Self, Refusal> {
        Ok(Self { tree: Tree::create(TREE)?, limits, bytes: 0, entries: 0, skipped_devices: 0 })
    }

    /// Writes the tree to disk, which came of what was `read`.
    fn finish(self, metadata: BoxMetadata, read: &Pumped) -> Result<Unpacked, Refusal> {
        let root = self.tree.finish()?;
        rustix::fs::syncfs(&root).map_err(|errno| Refusal::writing(TREE.as_bytes(), errno))?;
        Ok(Unpacked {
            digest: read.digest,
            archive_size: read.size,
            size: self.bytes,
            metadata,
            disk: None,
            skipped_devices: self.skipped_devices,
            notes: Vec::new(),
        })
    }

    /// Takes a whole archive, which is a root file system, or holds one or a disk image as Vagrant's boxes do.
    fn archive(&mut self, mut stream: TarStream<impl Read + Send>) -> Result<Holds, Refusal> {
        let mut box_file = vagrant::BoxFile::default();
        let mut parts = foreign::Parts::default();
        let mut layers = false;
        while let Some(entry) = stream.next_entry()? {
            let Some(path) = tree::clean(&entry.path, b"")? else { continue };
            if layers::is_layer(&path, &entry) && (layers || self.entries == 0) {
                layers = true;
                self.layer(stream.data())?;
                continue;
            }
            if layers {
                return Err(Refusal::Contradiction("it holds layers and other files".to_owned()));
            }
            match box_file.look_at(&path, &entry, &mut stream.data(), self.entries)? {
                vagrant::Look::RootfsArchive => {
                    let inner = compression::decompress(stream.data())?;
                    self.rootfs(TarStream::new(inner))?;
                }
                vagrant::Look::DiskImage => {
                    let Kind::File { size, extents } = &entry.kind else { continue };
                    disk::write_extents(&mut stream.data(), *size, extents, self.limits.bytes)?;
                }
                vagrant::Look::MachineFile => {
                    let Kind::File { size, extents } = &entry.kind else { continue };
                    parts.take(&path, &mut stream.data(), *size, extents, self.limits.bytes)?;
                }
                vagrant::Look::Description => {}
                vagrant::Look::NotABoxFile => self.entry(&path, &entry, &mut stream.data())?,
            }
        }
        if layers {
            stream.drain()?;
            // What upper layers hide is not counted.
            self.bytes = self.tree.size()?;
            return Ok(Holds::Layers);
        }
        box_file.check(self.entries)?;
        stream.drain()?;
        parts.into_disk(self.limits.bytes)?;
        Ok(match box_file.disk() {
            Some(vagrant) => Holds::Disk { vagrant },
            None => Holds::Rootfs,
        })
    }

    /// Takes a root file system inside of a Vagrant box; those made for LXC have it all below `rootfs/`.
    fn rootfs(&mut self, mut stream: TarStream<impl Read>) -> Result<(), Refusal> {
        let mut prefix = None;
        while let Some(entry) = stream.next_entry()? {
            let Some(path) = tree::clean(&entry.path, b"")? else { continue };
            if path.is_empty() {
                continue;
            }
            let below = path == b"rootfs" || path.starts_with(b"rootfs/");
            let prefix: &[u8] = prefix.get_or_insert(if below { b"rootfs".to_vec() } else { Vec::new() });
            if let Some(mut path) = tree::clean(&path, prefix)? {
                let mut entry = entry;
                if let (Kind::Hardlink(target), false) = (&mut entry.kind, prefix.is_empty()) {
                    *target = tree::clean(target, prefix)?
                        .ok_or_else(|| Refusal::absurd(&path, "a link out of the root file system"))?;
                }
                self.entry(&std::mem::take(&mut path), &entry, &mut stream.data())?;
            }
        }
        stream.drain()
    }

    /// Takes a root file system that was written down as an image of squashfs, which is removed.
    fn squashfs(&mut self) -> Result<(), Refusal> {
        let image = File::open(disk::PART).map_err(|error| disk::host(disk::PART, error))?;
        let limits = self.limits;
        squashfs::walk(image, limits, &mut |path, entry, mut data| {
            let path = tree::clean(path, b"")?.unwrap_or_default();
            self.entry(&path, entry, &mut data)
        })?;
        std::fs::remove_file(disk::PART).map_err(|error| disk::host(disk::PART, error))
    }

    fn entry(&mut self, path: &[u8], entry: &tar_stream::Entry, data: &mut impl Read) -> Result<(), Refusal> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Refusal::TooLarge(format!("{} entries", self.limits.entries)));
        }
        if let Kind::File { size, .. } = &entry.kind {
            self.bytes = self.bytes.saturating_add(*size);
            if self.bytes > self.limits.bytes {
                return Err(Refusal::TooLarge(format!("{} GiB", self.limits.bytes >> 30)));
            }
        }
        // Those in /dev would be hidden by a machine's own anyway.
        if self.tree.write(path, entry, data)? == Made::SkippedDevice && !path.starts_with(b"dev/") {
            self.skipped_devices += 1;
        }
        Ok(())
    }
}
