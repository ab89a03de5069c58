//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

use crate::boot::testing::volumes;
use crate::{Image, inspect, table};

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

/// A disk that is a file system, or holds some.
pub fn disk(bytes: &[u8]) {
    let _ = inspect(&Image::in_memory(bytes.to_vec()));
}
