//! Vagrant's `.box` files: an archive with `metadata.json` and, for LXC, the root file system as an
//! archive inside, or, for libvirt and QEMU, a disk image, or, for others, a machine as their hypervisors keep it.

use std::io::Read;

use serde::Deserialize;

use super::refusal::Refusal;
use super::tar_stream::{Entry, Kind};
use posada_image::Part;

/// Largest `metadata.json` that is read, bytes.
const MAX_DESCRIPTION: u64 = 1024 * 1024;

const ROOTFS_ARCHIVES: [&[u8]; 4] = [b"rootfs.tar", b"rootfs.tar.gz", b"rootfs.tar.xz", b"rootfs.tar.zst"];
/// What lies beside the root file system.
const DESCRIPTIONS: [&[u8]; 5] = [b"lxc-config", b"lxc-template", b"lxc.conf", b"Vagrantfile", b"info.json"];
/// Disk images: of Vagrant's boxes for libvirt and QEMU, and as Debian packs them.
const DISK_IMAGES: [&[u8]; 3] = [b"box.img", b"box_0.img", b"disk.raw"];

/// What a path is to a machine of another hypervisor.
fn machine_part(path: &[u8], directory: bool) -> Option<Part> {
    posada_image::part(str::from_utf8(path).ok()?, directory)
}

#[derive(Debug, Deserialize)]
struct Description {
    provider: Option<String>,
}

/// What has been seen of an archive that may be a Vagrant box.
#[derive(Debug, Default)]
pub struct BoxFile {
    provider: Option<String>,
    rootfs: bool,
    disk: bool,
    machine: bool,
}

/// What an entry is to a Vagrant box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The archive inside.
    RootfsArchive,
    /// A disk image.
    DiskImage,
    /// A file of a machine that another hypervisor has made.
    MachineFile,
    /// A file that only describes the box.
    Description,
    /// An entry as any other.
    NotABoxFile,
}

impl BoxFile {
    /// Looks at an entry at the top of the archive; `unpacked` entries of a root file system came before it.
    pub fn look_at(
        &mut self,
        path: &[u8],
        entry: &Entry,
        data: &mut impl Read,
        unpacked: u64,
    ) -> Result<Look, Refusal> {
        let Kind::File { size, .. } = &entry.kind else {
            // Only a box file's own root directory may stand among its files.
            let directory = entry.kind == Kind::Directory;
            let own_root = path.is_empty() && directory && self.is_box_file();
            let of_machine = directory && unpacked <= 1 && machine_part(path, true).is_some();
            return Ok(if own_root || of_machine { Look::Description } else { Look::NotABoxFile });
        };
        if path == b"metadata.json" {
            let mut text = Vec::new();
            data.take(MAX_DESCRIPTION).read_to_end(&mut text).map_err(|error| Refusal::reading(&error))?;
            // A root file system may have a file of this name that means something else.
            if *size <= MAX_DESCRIPTION
                && let Ok(Description { provider: Some(provider) }) = serde_json::from_slice(&text)
            {
                self.provider = Some(provider);
            }
            return Ok(Look::Description);
        }
        if ROOTFS_ARCHIVES.contains(&path) {
            if self.rootfs || self.disk || self.machine || unpacked > 1 {
                return Err(Refusal::Contradiction("it holds two root file systems".to_owned()));
            }
            self.rootfs = true;
            return Ok(Look::RootfsArchive);
        }
        if DISK_IMAGES.contains(&path) && unpacked <= 1 {
            if self.disk || self.rootfs || self.machine {
                return Err(Refusal::Contradiction(
                    "it holds more than one disk or root file system".to_owned(),
                ));
            }
            self.disk = true;
            return Ok(Look::DiskImage);
        }
        match machine_part(path, false).filter(|_| unpacked <= 1) {
            Some(Part::Needed) if self.disk || self.rootfs => {
                return Err(Refusal::Contradiction(
                    "it holds more than one disk or root file system".to_owned(),
                ));
            }
            Some(Part::Needed) => {
                self.machine = true;
                return Ok(Look::MachineFile);
            }
            Some(Part::Beside) => return Ok(Look::Description),
            None => {}
        }
        Ok(if DESCRIPTIONS.contains(&path) { Look::Description } else { Look::NotABoxFile })
    }

    /// Looks back at the whole archive.
    pub fn check(&self, unpacked: u64) -> Result<(), Refusal> {
        if (self.disk || self.machine) && unpacked > 1 {
            return Err(Refusal::Contradiction("it holds a disk image and other files".to_owned()));
        }
        if self.provider.is_some() && !self.rootfs && !self.disk && !self.machine && unpacked <= 1 {
            Err(self.other_provider())
        } else {
            Ok(())
        }
    }

    /// Whether it holds a disk image, and then whether it is a Vagrant box.
    pub fn disk(&self) -> Option<bool> {
        (self.disk || self.machine).then_some(self.provider.is_some())
    }

    fn is_box_file(&self) -> bool {
        self.rootfs || self.disk || self.machine || self.provider.is_some()
    }

    fn other_provider(&self) -> Refusal {
        Refusal::OtherProvider(self.provider.clone().unwrap_or_else(|| "virtual machines".to_owned()))
    }
}
