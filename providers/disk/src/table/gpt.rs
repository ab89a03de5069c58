//! The GUID partition table (UEFI 2.10 §5.3). Numbers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{MAX_PARTITIONS, Partition, SECTOR, le32, le64, read as bytes_of};
use crate::{DiskError, Image};

const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER: usize = 92;
/// Length of an entry as it is written, bytes.
const ENTRY: usize = 128;
/// Number of entries as they are written.
const ENTRIES: usize = 128;
/// Longest entry that is read, bytes.
const MAX_ENTRY: usize = 4096;
/// Sectors before the first partition and after the last: header and entries.
const RESERVED: u64 = 1 + (ENTRIES * ENTRY) as u64 / SECTOR;

/// Reads the partitions; `None` where there is no such table.
pub fn read(disk: &Image) -> Result<Option<Vec<Partition>>, DiskError> {
    let Some(first) = bytes_of(disk, SECTOR, SECTOR as usize)? else { return Ok(None) };
    if !first.starts_with(SIGNATURE) {
        return Ok(None);
    }
    let damaged = |what: &str| DiskError::corrupt(disk.path(), format!("its partition table {what}"));
    if let Some(table) = table(disk, &first)? {
        if le64(&first, 32) >= disk.size() / SECTOR {
            return Err(DiskError::truncated(
                disk.path(),
                "the other copy of its partition table is not there",
            ));
        }
        return entries(disk, &table).map(Some);
    }
    // The other copy is at the end.
    let last = (disk.size() / SECTOR).saturating_sub(1) * SECTOR;
    let Some(backup) = bytes_of(disk, last, SECTOR as usize)? else { return Err(damaged("cannot be read")) };
    let table = table(disk, &backup)?.ok_or_else(|| damaged("does not have its checksum"))?;
    entries(disk, &table).map(Some)
}

struct Table {
    entry: usize,
    bytes: Vec<u8>,
}

/// The table that a header describes; `None` where a checksum is wrong.
fn table(disk: &Image, header: &[u8]) -> Result<Option<Table>, DiskError> {
    let length = le32(header, 12) as usize;
    if !header.starts_with(SIGNATURE) || !(HEADER..=header.len()).contains(&length) {
        return Ok(None);
    }
    let mut checked = header[..length].to_vec();
    checked[16..20].fill(0);
    if crc32fast::hash(&checked) != le32(header, 16) {
        return Ok(None);
    }
    let (count, entry) = (le32(header, 80) as usize, le32(header, 84) as usize);
    if !(ENTRY..=MAX_ENTRY).contains(&entry) || count > 1024 {
        return Err(DiskError::corrupt(disk.path(), "its partition table has an impossible size"));
    }
    let Some(at) = le64(header, 72).checked_mul(SECTOR) else { return Ok(None) };
    let Some(bytes) = bytes_of(disk, at, count * entry)? else {
        return Err(DiskError::truncated(disk.path(), "its partition table is not whole"));
    };
    Ok((crc32fast::hash(&bytes) == le32(header, 88)).then_some(Table { entry, bytes }))
}

fn entries(disk: &Image, table: &Table) -> Result<Vec<Partition>, DiskError> {
    let mut found = Vec::new();
    for (number, entry) in (1..).zip(table.bytes.chunks_exact(table.entry)) {
        if entry[..16] == [0; 16] {
            continue;
        }
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        let place = (|| {
            let sectors = last.checked_sub(first)?.checked_add(1)?;
            let (offset, length) = (first.checked_mul(SECTOR)?, sectors.checked_mul(SECTOR)?);
            Some((offset, length, offset.checked_add(length)?))
        })();
        let Some((offset, length, end)) = place else {
            let what = format!("its partition {number} is at an impossible place");
            return Err(DiskError::corrupt(disk.path(), what));
        };
        if end > disk.size() {
            let what = format!("its partition {number} goes beyond its end");
            return Err(DiskError::truncated(disk.path(), what));
        }
        let units = entry[56..ENTRY].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let label: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        found.push(Partition {
            number,
            offset,
            length,
            id: Some(guid(&entry[16..32])),
            label: (!label.is_empty()).then_some(label),
            kind: Some(guid(&entry[..16])),
        });
        if found.len() == MAX_PARTITIONS {
            break;
        }
    }
    Ok(found)
}

/// A GUID's text: its first three parts are little-endian (UEFI 2.10, appendix A).
fn guid(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (index, place) in ORDER.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", bytes[place]));
    }
    text
}

/// A partition of a table that is to be written. All ids are 16 bytes as they lie on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartition<'a> {
    /// What it is for.
    pub kind: [u8; 16],
    /// Its own id.
    pub id: [u8; 16],
    /// Where it begins, bytes; a multiple of the sector.
    pub offset: u64,
    /// How long it is, bytes; a multiple of the sector.
    pub length: u64,
    /// Its name, at most 36 characters.
    pub label: &'a str,
}

impl NewPartition<'_> {
    /// The type of a root file system for x86-64, `4f68bce3-e8cd-4db1-96e7-fbcaf984b709` (Discoverable Partitions
    /// Specification).
    pub const ROOT_X86_64: [u8; 16] =
        [0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09];
    /// The type of a root file system for 64-bit ARM, `b921b045-1df0-41c3-af44-4c6f280d3fae`.
    pub const ROOT_ARM64: [u8; 16] =
        [0x45, 0xb0, 0x21, 0xb9, 0xf0, 0x1d, 0xc3, 0x41, 0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f, 0xae];

    /// What `PARTUUID=` will call it.
    #[must_use]
    pub fn id_text(&self) -> String {
        guid(&self.id)
    }
}

/// Writes a table with `partitions`, of the disk `id`, into `disk`, which is `size` bytes long: the protective MBR
/// and both copies.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where a partition does not fit, and what the host says.
pub fn write_gpt(disk: &File, size: u64, id: [u8; 16], partitions: &[NewPartition<'_>]) -> io::Result<()> {
    let sectors = size / SECTOR;
    let usable = RESERVED + 1..=sectors.saturating_sub(RESERVED + 1);
    let mut table = vec![0; ENTRIES * ENTRY];
    if partitions.len() > ENTRIES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many partitions"));
    }
    for (entry, partition) in table.chunks_exact_mut(ENTRY).zip(partitions) {
        let first = partition.offset / SECTOR;
        let last = first + (partition.length / SECTOR).saturating_sub(1);
        let fits = usable.contains(&first) && usable.contains(&last) && partition.length >= SECTOR;
        if !fits || !partition.offset.is_multiple_of(SECTOR) || !partition.length.is_multiple_of(SECTOR) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a partition does not fit"));
        }
        entry[..16].copy_from_slice(&partition.kind);
        entry[16..32].copy_from_slice(&partition.id);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        for (place, unit) in entry[56..].chunks_exact_mut(2).zip(partition.label.encode_utf16()) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let last = sectors - 1;
    let header = |own: u64, other: u64, entries: u64| {
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(SIGNATURE);
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&usable.start().to_le_bytes());
        header[48..56].copy_from_slice(&usable.end().to_le_bytes());
        header[56..72].copy_from_slice(&id);
        header[72..80].copy_from_slice(&entries.to_le_bytes());
        header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&table).to_le_bytes());
        let checksum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    };
    disk.write_all_at(&protective(sectors), 0)?;
    disk.write_all_at(&header(1, last, 2), SECTOR)?;
    disk.write_all_at(&table, 2 * SECTOR)?;
    disk.write_all_at(&table, (last - (RESERVED - 1)) * SECTOR)?;
    disk.write_all_at(&header(last, 1, last - (RESERVED - 1)), last * SECTOR)
}

/// A master boot record whose one partition has the whole disk (UEFI 2.10 §5.2.3).
fn protective(sectors: u64) -> Vec<u8> {
    let mut sector = vec![0; 512];
    let entry = &mut sector[446..462];
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disk() -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let root = NewPartition {
            kind: NewPartition::ROOT_X86_64,
            id: std::array::from_fn(|i| i as u8),
            offset: 64 << 10,
            length: 512 << 10,
            label: "root",
        };
        write_gpt(file.as_file(), 1 << 20, [7; 16], &[root]).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_also_from_the_other_copy() {
        let mut bytes = disk();
        let found = read(&Image::in_memory(bytes.clone())).unwrap().unwrap();
        assert_eq!(found.len(), 1);
        let root = &found[0];
        assert_eq!((root.number, root.offset, root.length), (1, 64 << 10, 512 << 10));
        assert_eq!(root.id.as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!(root.kind.as_deref(), Some("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"));
        assert_eq!(root.label.as_deref(), Some("root"));
        bytes[1024] ^= 1;
        assert_eq!(read(&Image::in_memory(bytes.clone())).unwrap().unwrap(), found);
        let end = bytes.len();
        bytes[end - 512 + 60] ^= 1;
        assert!(matches!(read(&Image::in_memory(bytes)), Err(DiskError::Corrupt { .. })));
    }

    #[test]
    fn a_disk_that_was_cut_is_told() {
        let bytes = disk();
        let cut = read(&Image::in_memory(bytes[..300 << 10].to_vec()));
        assert!(matches!(cut, Err(DiskError::Truncated { .. })), "{cut:?}");
    }

    proptest! {
        #[test]
        fn nothing_in_a_table_panics(changes in proptest::collection::vec((512usize..1200, any::<u8>()), 1..8)) {
            let mut bytes = disk();
            for (at, value) in changes {
                bytes[at] = value;
            }
            // With the header's checksum made right, so that what follows is reached.
            let length = le32(&bytes, 512 + 12) as usize;
            if (HEADER..=512).contains(&length) {
                bytes[528..532].fill(0);
                let sum = crc32fast::hash(&bytes[512..512 + length]);
                bytes[528..532].copy_from_slice(&sum.to_le_bytes());
            }
            let _ = read(&Image::in_memory(bytes));
        }
    }
}
