//! Virtual disk images of other hypervisors: what each format says, read and written.
//!
//! ```text
//! open(path)                    what a file is, by its content                probe.rs
//!   ├─ a machine with its files OVA, XVA, boxes of Vagrant, Parallels      bundle/
//!   └─ a disk                   raw, qcow2, VMDK, VDI, VHD, VHDX, Parallels   read/
//!        └─ ReadImage           size, bytes at places, which places have any  image.rs
//! write(format, image, output)  raw, qcow2, VMDK, VDI, VHDX, OVA              write/
//! ```
//!
//! Each format is a map from places of the disk to places of its files; all else (reading, holes, decompression,
//! looking for tables that lead to the same place twice) is done once, for all of them.
//!
//! Images come from anywhere. Tables are read in pages as they are needed, so that memory does not grow with the
//! disk: an open image keeps some 4 MiB (and a VHDX that was not shut down cleanly its log), and copying adds two pieces of 2 MiB for each thread. Disks are at most
//! [`MAX_DISK`]; an image leads to no file but those given with it, by their plain names.

mod bundle;
mod bytes;
mod copy;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod image;
mod open;
mod overlay;
mod pages;
mod probe;
mod read;
mod storage;
mod write;

pub use bundle::{Bundle, Part, part};
pub use copy::{Copied, Told, copy_to};
pub use error::ImageError;
pub use image::{Extent, Extents, ReadImage};
pub use open::open;
pub use probe::{ENOUGH, Format, probe};
pub use read::{Backing, is_special, open_storage};
pub use storage::Storage;
pub use write::{Machine, Options, Output, WRITABLE, write};

/// Largest disk, bytes: 64 TiB.
pub const MAX_DISK: u64 = 64 << 40;

/// What calls here come to.
pub type Result<T> = std::result::Result<T, ImageError>;
