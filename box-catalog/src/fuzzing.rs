//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

/// A root file system as a squashfs image.
pub fn squashfs(bytes: &[u8]) {
    crate::unpack::check_squashfs(bytes);
}
