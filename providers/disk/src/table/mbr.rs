//! The master boot record with its four entries, one of which may be a chain of further ones.

use super::{MAX_PARTITIONS, Partition, SECTOR, le32};
use crate::{DiskError, Image};

/// Where the four entries begin.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// Types of a partition that holds further ones.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// First number of a partition inside of another.
const FIRST_LOGICAL: u32 = 5;

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u8,
    start: u64,
    sectors: u64,
}

/// Reads the partitions; `None` where there is no such table.
pub fn read(disk: &Image) -> Result<Option<Vec<Partition>>, DiskError> {
    let Some(sector) = super::read(disk, 0, 512)? else { return Ok(None) };
    let Some(entries) = entries(&sector) else { return Ok(None) };
    // Boot sectors of file systems have the signature, too, and something else where entries are.
    let plausible = |bytes: &[u8]| matches!(bytes[0], 0 | 0x80);
    if !sector[ENTRIES..510].chunks_exact(ENTRY).all(plausible) || entries.iter().all(|entry| entry.kind == 0)
    {
        return Ok(None);
    }
    let signature = le32(&sector, 440);
    let mut found = Vec::new();
    let mut add = |number: u32, entry: Entry, base: u64| {
        let partition = partition(disk, signature, number, entry, base)?;
        found.push(partition);
        Ok::<_, DiskError>(())
    };
    let mut chain = None;
    for (number, entry) in (1..).zip(entries) {
        if EXTENDED.contains(&entry.kind) {
            chain = chain.or(Some(entry));
        } else if entry.kind != 0 && entry.sectors != 0 {
            add(number, entry, 0)?;
        }
    }
    if let Some(extended) = chain {
        let (mut at, mut number) = (extended.start, FIRST_LOGICAL);
        // Bounded, as the chain may lead back to itself.
        for _ in 0..MAX_PARTITIONS {
            let sector = super::read(disk, at * SECTOR, 512)?;
            let Some(entries) = sector.as_deref().and_then(self::entries) else { break };
            if entries[0].kind != 0 && entries[0].sectors != 0 {
                add(number, entries[0], at)?;
                number += 1;
            }
            if !EXTENDED.contains(&entries[1].kind) {
                break;
            }
            at = extended.start + entries[1].start;
        }
    }
    Ok(Some(found))
}

fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    Some(std::array::from_fn(|index| {
        let entry = &sector[ENTRIES + index * ENTRY..];
        Entry { kind: entry[4], start: u64::from(le32(entry, 8)), sectors: u64::from(le32(entry, 12)) }
    }))
}

fn partition(
    disk: &Image,
    signature: u32,
    number: u32,
    entry: Entry,
    base: u64,
) -> Result<Partition, DiskError> {
    // Sums of numbers of 32 bits each.
    let offset = (base + entry.start) * SECTOR;
    let length = entry.sectors * SECTOR;
    if offset + length > disk.size() {
        let what = format!("its partition {number} goes beyond its end");
        return Err(DiskError::truncated(disk.path(), what));
    }
    Ok(Partition {
        number,
        offset,
        length,
        id: Some(format!("{signature:08x}-{number:02x}")),
        label: None,
        kind: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(disk: &mut [u8], sector: usize, index: usize, kind: u8, start: u32, sectors: u32) {
        let at = sector * 512 + ENTRIES + index * ENTRY;
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    #[test]
    fn partitions_inside_of_others_are_found_and_a_loop_ends() {
        let mut disk = vec![0; 100 * 512];
        disk[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        put(&mut disk, 0, 0, 0x83, 1, 9);
        put(&mut disk, 0, 2, 0x05, 20, 80);
        put(&mut disk, 20, 0, 0x83, 1, 9);
        put(&mut disk, 20, 1, 0x05, 20, 20);
        put(&mut disk, 40, 0, 0x83, 1, 5);
        let found = read(&Image::in_memory(disk.clone())).unwrap().unwrap();
        let places: Vec<_> = found.iter().map(|p| (p.number, p.offset / 512, p.length / 512)).collect();
        assert_eq!(places, [(1, 1, 9), (5, 21, 9), (6, 41, 5)]);
        assert_eq!(found[2].id.as_deref(), Some("1234abcd-06"));
        put(&mut disk, 40, 1, 0x05, 0, 20);
        assert!(read(&Image::in_memory(disk.clone())).unwrap().unwrap().len() <= MAX_PARTITIONS + 1);
        put(&mut disk, 0, 0, 0x83, 1, 100);
        assert!(matches!(read(&Image::in_memory(disk)), Err(DiskError::Truncated { .. })));
    }

    #[test]
    fn a_boot_sector_of_a_file_system_is_no_table() {
        let mut disk = vec![0x20; 2048];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(read(&Image::in_memory(disk)).unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_in_a_table_panics(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048)) {
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            for index in 0..4 {
                bytes[ENTRIES + index * ENTRY] &= 0x80;
            }
            let _ = read(&Image::in_memory(bytes));
        }
    }
}
