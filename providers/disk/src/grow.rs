//! Growing a machine's own disk while nobody uses it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::DiskError;
use crate::image::MAX_DISK;
use crate::image::header::Header;

/// Bytes of an entry of the first-level table.
const ENTRY: u64 = 8;
/// Where the header has the disk's size, the encryption method and the number of first-level entries, side by side.
const SIZE_AT: u64 = 24;
/// What a disk's size is rounded up to, bytes: a sector.
const SECTOR: u64 = 512;

/// Makes the qcow2 image at `path` as large as `size` bytes; nothing where it is so already. What is new reads as zeros.
/// An image that is killed while it grows has its old size or its new one.
///
/// Only as far as the first-level table's own clusters reach: 4 TiB for the images of [`overlay`](crate::overlay).
///
/// # Errors
/// [`DiskError::TooSmall`] where it is larger than `size`, [`DiskError::Absurd`] above [`MAX_DISK`],
/// [`DiskError::Unsupported`] where its first-level table has no room, [`DiskError::Full`], [`DiskError::Io`].
pub fn grow(path: &Path, size: u64) -> Result<(), DiskError> {
    let failed = |what: &'static str| move |error| DiskError::io(what, path, error);
    let file = File::options().read(true).write(true).open(path).map_err(failed("open"))?;
    let header = Header::read(&file, path)?;
    if size > MAX_DISK {
        let what = format!("a disk of {} TiB, where {} are the limit", size >> 40, MAX_DISK >> 40);
        return Err(DiskError::Absurd { path: path.to_owned(), what });
    }
    let size = size.next_multiple_of(SECTOR);
    if size < header.size {
        return Err(DiskError::TooSmall { wanted: size, base: header.size });
    }
    if size == header.size {
        return Ok(());
    }
    let (has, needs) = (header.l1_entries, Header::l1_needed(size, header.cluster_bits));
    let room = (has * ENTRY).next_multiple_of(1 << header.cluster_bits) / ENTRY;
    if needs > room {
        let what = format!("a first-level table with no room for a disk of {} GiB", size >> 30);
        return Err(DiskError::Unsupported { path: path.to_owned(), what });
    }
    if needs > has {
        // Nobody has promised that the rest of the table's clusters is zero.
        let zeros = vec![0; usize::try_from((needs - has) * ENTRY).unwrap_or(usize::MAX)];
        file.write_all_at(&zeros, header.l1_offset + has * ENTRY).map_err(failed("write"))?;
        file.sync_data().map_err(failed("write"))?;
    }
    // Within one sector, so that size and table are told together or not at all.
    let mut fields = [0; 16];
    fields[..8].copy_from_slice(&size.to_be_bytes());
    let entries = u32::try_from(needs.max(has)).map_err(|_| DiskError::Absurd {
        path: path.to_owned(),
        what: format!("a first-level table of {needs} entries"),
    })?;
    fields[12..].copy_from_slice(&entries.to_be_bytes());
    file.write_all_at(&fields, SIZE_AT).map_err(failed("write"))?;
    file.sync_all().map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backing, Image, overlay};

    #[test]
    fn a_disk_grows_keeps_its_content_and_never_shrinks() {
        let temp = tempfile::tempdir().unwrap();
        let (base, disk) = (temp.path().join("base.raw"), temp.path().join("disk.qcow2"));
        std::fs::write(&base, [7; 4096]).unwrap();
        overlay::create(&disk, &base, Some(1 << 20)).unwrap();
        // Garbage where the table will reach, as an image that was not made by us may have there.
        let file = File::options().write(true).open(&disk).unwrap();
        let header = Header::read(&File::open(&disk).unwrap(), &disk).unwrap();
        file.write_all_at(&[0xff; 64], header.l1_offset + header.l1_entries * ENTRY).unwrap();

        for size in [1 << 20, (2 << 30) + 1, 2 << 40] {
            grow(&disk, size).unwrap();
            let grown = Image::open(&disk, Backing::Followed).unwrap();
            grown.check().unwrap();
            assert_eq!(grown.size(), size.next_multiple_of(SECTOR));
            assert_eq!(overlay::read(&disk).unwrap().base, base);
            let mut bytes = [1; 8];
            grown.read_at(4092, &mut bytes).unwrap();
            assert_eq!(bytes, [7, 7, 7, 7, 0, 0, 0, 0]);
            grown.read_at(grown.size() - 8, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 8]);
        }
        assert!(matches!(grow(&disk, 1 << 30), Err(DiskError::TooSmall { .. })));
        assert!(matches!(grow(&disk, 5 << 40), Err(DiskError::Unsupported { .. })));
        assert!(matches!(grow(&disk, MAX_DISK + 1), Err(DiskError::Absurd { .. })));
        assert_eq!(Image::open(&disk, Backing::Followed).unwrap().size(), 2 << 40);
    }
}
