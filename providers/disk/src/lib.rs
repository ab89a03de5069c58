//! Disk images: reading them without mounting them, finding what they boot, and putting machines' own disks over them.
//!
//! Like `userns`, this crate lies below both the box catalog, which looks into an image once and stores what it found,
//! and the KVM provider, which gives each machine a disk of its own; neither may know the other.
//!
//! ```text
//! Image::open(path, Backing)    a raw or qcow2 image as bytes at places    image/
//!   └─ table::partitions        GPT, MBR, or the whole disk                table/
//!        └─ files::open         ext2, ext3, ext4 (others are named)        files/
//!             └─ boot           grub.cfg, BLS, extlinux, newest kernel     boot/
//! inspect(&Image)               all of the above: Contents                 system.rs
//! walk(&Image, take)            all files of the system that it holds       tree.rs
//! overlay::create(path, base)   a qcow2 overlay, a few milliseconds        overlay.rs
//! ```
//!
//! Images come from anywhere. What is read into memory is bounded: configurations to 1 MiB, kernels to
//! [`MAX_KERNEL`], initial RAM file systems to [`MAX_INITRD`], disks to [`MAX_DISK`]; scripts end after a fixed number
//! of steps. Nothing here writes to an image that it opened, and an image can name another file only where
//! [`Backing::Followed`] is said.
//!
//! ```no_run
//! # fn main() -> Result<(), posada_disk::DiskError> {
//! use posada_disk::{Backing, Image, inspect, overlay};
//! let image = Image::open("debian-12.qcow2".as_ref(), Backing::Refused)?;
//! image.check()?;
//! let contents = inspect(&image)?;
//! let boot = contents.boot.expect("it has a kernel");
//! assert!(boot.cmdline.contains("root="));
//! overlay::create("machine.qcow2".as_ref(), image.path(), Some(20 << 30))?;
//! # Ok(())
//! # }
//! ```

mod boot;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grow;
mod image;
pub mod overlay;
mod system;
pub mod table;
mod tree;

pub use boot::{BootFiles, Drivers, MAX_INITRD, MAX_KERNEL, Rule, continues};
pub use error::DiskError;
pub use files::{Node, NodeKind};
pub use grow::grow;
pub use image::{Backing, ENOUGH, Found, Image, MAX_DISK, probe};
pub use system::{Contents, System, drivers, inspect};
pub use table::Partition;
pub use tree::walk;
