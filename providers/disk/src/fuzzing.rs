//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

use crate::boot::testing::volumes;
use crate::{DiskError, Image, inspect, table, walk};

/// `grub.cfg`, with an environment block after the first NUL.
pub fn grub(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (config, environment) = text.split_once('\0').unwrap_or((&text, ""));
    let files = [("/boot/grub/grub.cfg", config), ("/boot/grub/grubenv", environment), ("/k", "HdrS")];
    let _ = crate::boot::find(&volumes(&[&files, &[]]), Some(0));
}

/// Two entries of the Boot Loader Specification, divided by a NUL.
pub fn bls(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    let files = [("/loader/entries/a.conf", first), ("/loader/entries/b+1-2.conf", second)];
    let _ = crate::boot::find(&volumes(&[&files]), None);
}

/// A disk that begins with a partition table.
pub fn partitions(bytes: &[u8]) {
    let _ = table::partitions(&Image::in_memory(bytes.to_vec()));
}

/// A disk that is a file system, or holds some: what is found on it, and all of its files.
pub fn disk(bytes: &[u8]) {
    let disk = Image::in_memory(bytes.to_vec());
    let _ = inspect(&disk);
    let (mut nodes, mut left) = (0, READ);
    let _ = walk::<Enough>(&disk, &mut |_, content| {
        nodes += 1;
        let mut piece = [0; 1 << 16];
        while left > 0 {
            match content.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
        if nodes < NODES && left > 0 { Ok(()) } else { Err(Enough) }
    });
}

/// An initial RAM file system.
pub fn initrd(bytes: &[u8]) {
    let _ = crate::boot::initrd_paths(bytes, &mut |_| {});
}

/// Most bytes of files that are read.
const READ: usize = 8 << 20;
/// Most files that are looked at.
const NODES: usize = 10_000;

/// Why a walk ended.
struct Enough;

impl From<DiskError> for Enough {
    fn from(_: DiskError) -> Self {
        Self
    }
}
