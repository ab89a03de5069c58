//! What the store knows of a box's disk image, and how its files are called.

use posada_provider_api::{DiskFormat, Seeding};
use serde::{Deserialize, Serialize};

/// Name of the kernel that was taken out of a disk, in a box's directory; unpacked, where that could be done.
pub const KERNEL: &str = "boot/kernel";
/// Name of the initial RAM file system that was taken out of a disk, in a box's directory.
pub const INITRD: &str = "boot/initrd";

/// Name of the list of chunks that a raw disk image is made from again, in a box's directory.
pub const CHUNKS: &str = "disk.chunks";

/// Name of a disk image of this format in a box's directory.
pub fn file_name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Raw => "disk.raw",
        DiskFormat::Qcow2 => "disk.qcow2",
    }
}

/// A box's disk image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    pub format: DiskFormat,
    /// How large the disk is for a machine, bytes.
    pub size: u64,
    pub seeding: Seeding,
    /// What was taken out of it to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootRecord>,
}

/// What was taken out of a disk to boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// Whether there is an initial RAM file system.
    pub initrd: bool,
    /// The kernel's command line.
    pub cmdline: String,
    /// The kernel's version: `6.1.0-40-cloud-amd64`.
    pub version: String,
    /// What chose it.
    pub chosen_by: String,
}
