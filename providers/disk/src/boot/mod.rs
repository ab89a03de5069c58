//! What a disk's own boot loader would start.
//!
//! The rules are tried in this order; the first that leads to a kernel that is there decides:
//! 1. `grub.cfg`, with its default, saved entries, submenus and searches, and what `blscfg` in it stands for;
//! 2. entries of the Boot Loader Specification (type 1);
//! 3. `extlinux.conf` or `syslinux.cfg`;
//! 4. the newest `vmlinuz-VERSION` in `/boot`, with the initial RAM file system of that version.

mod bls;
mod extlinux;
mod files;
mod grub;
mod initrd;
mod newest;
mod root;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod testing;
mod version;
mod virtio;

use std::fmt;

use crate::DiskError;
use crate::files::Volume;

pub use files::{BootFiles, MAX_INITRD, MAX_KERNEL};
#[cfg(feature = "fuzzing")]
pub(crate) use initrd::paths as initrd_paths;
pub(crate) use root::{is_foreign, of as volume_of};
pub(crate) use virtio::drivers;
pub use virtio::{Drivers, continues};

/// Largest configuration that is read, bytes.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;

/// Which rule chose a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// GRUB's configuration.
    Grub,
    /// An entry of the Boot Loader Specification.
    Bls,
    /// The configuration of extlinux or syslinux.
    Extlinux,
    /// The newest kernel, as no boot loader's configuration chose one.
    Newest,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Grub => "grub.cfg",
            Self::Bls => "a boot loader entry",
            Self::Extlinux => "extlinux.conf",
            Self::Newest => "the newest kernel in /boot",
        })
    }
}

/// A file on one of the volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub volume: usize,
    pub path: String,
}

/// What is to be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub kernel: Place,
    pub initrds: Vec<Place>,
    pub cmdline: String,
    pub version: Option<String>,
    pub rule: Rule,
}

/// The file systems of a disk.
#[derive(Debug)]
pub(crate) struct Volumes(pub Vec<Volume>);

impl Volumes {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All volumes, `first` before the others.
    pub fn beginning_with(&self, first: Option<usize>) -> impl Iterator<Item = usize> {
        first.into_iter().chain((0..self.len()).filter(move |volume| Some(*volume) != first))
    }

    pub fn by_uuid(&self, uuid: &str) -> Option<usize> {
        self.find(|volume| volume.uuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid)))
    }

    pub fn by_label(&self, label: &str) -> Option<usize> {
        self.find(|volume| volume.label.as_deref() == Some(label))
    }

    pub fn by_partition_id(&self, id: &str) -> Option<usize> {
        self.find(|volume| volume.partition.id.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(id)))
    }

    pub fn by_number(&self, number: u32) -> Option<usize> {
        self.find(|volume| volume.partition.number == number)
    }

    pub fn find(&self, is_it: impl Fn(&Volume) -> bool) -> Option<usize> {
        self.0.iter().position(is_it)
    }

    pub fn exists(&self, volume: usize, path: &str) -> bool {
        let files = self.0.get(volume).and_then(|volume| volume.files.as_deref());
        files.is_some_and(|files| files.exists(path))
    }

    pub fn list(&self, volume: usize, path: &str) -> Result<Vec<String>, DiskError> {
        match self.0.get(volume).and_then(|volume| volume.files.as_deref()) {
            Some(files) => files.list(path),
            None => Ok(Vec::new()),
        }
    }

    pub fn read(&self, place: &Place, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        match self.0.get(place.volume).and_then(|volume| volume.files.as_deref()) {
            Some(files) if place.path.starts_with('/') => files.read(&place.path, limit),
            _ => Ok(None),
        }
    }

    pub fn text(&self, place: &Place, limit: u64) -> Result<Option<String>, DiskError> {
        Ok(self.read(place, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Finds what boots from these volumes, of which `root` holds the system.
pub(crate) fn find(volumes: &Volumes, root: Option<usize>) -> Result<Option<BootFiles>, DiskError> {
    for rule in [Rule::Grub, Rule::Bls, Rule::Extlinux, Rule::Newest] {
        let choice = match rule {
            Rule::Grub => grub::choose(volumes, root),
            Rule::Bls => bls::choose(volumes, root, None, ""),
            Rule::Extlinux => extlinux::choose(volumes, root),
            Rule::Newest => newest::choose(volumes, root),
        };
        let Some(mut choice) = choice? else { continue };
        choice.cmdline = root::complete(volumes, root, &choice);
        if let Some(files) = files::load(volumes, choice)? {
            return Ok(Some(files));
        }
    }
    Ok(None)
}
