//! Archives that nobody has looked at.

use std::io::{self, Read};

use super::pax::parse_pax;
use super::sparse::Extent;
use super::tar_stream::{Kind, TarStream};
use super::{Limits, TREE, compression, tree};
use crate::Form;

pub use super::squashfs::check as squashfs;

/// Bytes that are read of what an archive holds.
const READ: u64 = 8 << 20;

/// An archive, which may be compressed: its paths lead nowhere else, and pieces of sparse files are in order.
pub fn archive(bytes: &[u8]) {
    let Ok(plain) = compression::decompress(bytes) else { return };
    let mut stream = TarStream::new(plain.take(READ));
    while let Ok(Some(entry)) = stream.next_entry() {
        if let Ok(Some(path)) = tree::clean(&entry.path, b"") {
            assert!(path.is_empty() || path.split(|byte| *byte == b'/').all(is_name));
            assert!(path.split(|byte| *byte == b'/').count() <= tree::MAX_DEPTH);
        }
        let told = match &entry.kind {
            Kind::File { size, extents } => in_order(*size, extents),
            _ => 0,
        };
        let Ok(read) = io::copy(&mut stream.data(), &mut io::sink()) else { break };
        assert_eq!(read, told);
    }
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
}

/// Bytes that pieces of a file come to, which lie one behind the other in it.
fn in_order(size: u64, extents: &[Extent]) -> u64 {
    let mut end = 0;
    for extent in extents {
        assert!(extent.offset >= end && extent.length <= size - extent.offset);
        end = extent.offset + extent.length;
    }
    extents.iter().map(|extent| extent.length).sum()
}

/// The records of a pax header.
pub fn pax(bytes: &[u8]) {
    if let Ok(pax) = parse_pax(bytes) {
        assert!(pax.mtime.is_none_or(|(_, nanoseconds)| nanoseconds < 1_000_000_000));
        assert!(
            pax.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= bytes.len()
        );
        if let Some(sparse) = pax.sparse
            && let Ok((_, map)) = sparse.resolve(&mut io::empty(), b"f")
        {
            let size = map.size;
            if let Ok(extents) = map.checked(bytes.len() as u64, b"f") {
                assert_eq!(in_order(size, &extents), bytes.len() as u64);
            }
        }
    }
}

/// What may lie where something was unpacked, besides the disk that was found.
const MADE: [&str; 3] = [TREE, "disk.", "boot"];

/// Unpacks an archive or an image into the current directory, which has to be an empty one, and empties it again.
///
/// # Panics
/// Where something was made beside what is unpacked.
pub fn unpack(bytes: &[u8]) {
    let limits = Limits { bytes: READ, entries: 500 };
    let input = io::Cursor::new(bytes.to_vec());
    let _ = super::unpack(input, limits, None, Form::Rootfs, |_| None, |_| {});
    for entry in fs_err::read_dir(".").expect("the current directory") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(MADE.iter().any(|made| name.starts_with(made)), "{name} is none of unpacking's");
        let removed = if path.is_dir() { fs_err::remove_dir_all(&path) } else { fs_err::remove_file(&path) };
        removed.expect("what was made can be removed");
    }
}
