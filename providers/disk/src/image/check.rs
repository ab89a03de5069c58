//! Whether all that a qcow2 image's tables name is there (`docs/interop/qcow2.txt`, "Cluster mapping").

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::Header;
use super::open_file;
use crate::DiskError;

/// Bits of an entry that hold an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Looks at both levels of tables.
pub fn tables(path: &Path) -> Result<(), DiskError> {
    let file = open_file(path)?;
    let length = file.metadata().map_err(|error| DiskError::io("read", path, error))?.len();
    let header = Header::read(&file, path)?;
    let first = entries(&file, header.l1_offset, header.l1_entries, path)?;
    let cluster = 1_u64 << header.cluster_bits;
    let needed = usize::try_from(Header::l1_needed(header.size, header.cluster_bits)).unwrap_or(usize::MAX);
    for entry in first.into_iter().take(needed) {
        let table = entry & OFFSET;
        if table == 0 {
            continue;
        }
        if !table.is_multiple_of(cluster) {
            return Err(DiskError::corrupt(path, "one of its tables is at an impossible place"));
        }
        if table.checked_add(cluster).is_none_or(|end| end > length) {
            return Err(DiskError::truncated(path, "one of its tables is not there"));
        }
        for entry in entries(&file, table, cluster / 8, path)? {
            data(entry, cluster, header.cluster_bits, length, path)?;
        }
    }
    Ok(())
}

fn data(entry: u64, cluster: u64, cluster_bits: u32, length: u64, path: &Path) -> Result<(), DiskError> {
    let missing = || DiskError::truncated(path, "some of its data is not there");
    if entry & COMPRESSED != 0 {
        let bits = 62 - (cluster_bits - 8);
        let start = entry & ((1 << bits) - 1);
        let sectors = (entry & !COMPRESSED & !(1 << 63)) >> bits;
        // The last sector may be cut where the file ends.
        let end = (start & !511) + (sectors + 1) * 512;
        return if start < length && end <= length.next_multiple_of(512) { Ok(()) } else { Err(missing()) };
    }
    let start = entry & OFFSET;
    if start == 0 || entry & ZERO != 0 {
        return Ok(());
    }
    if !start.is_multiple_of(cluster) {
        return Err(DiskError::corrupt(path, "some of its data is at an impossible place"));
    }
    // The last cluster may be cut where the file ends.
    let whole = start.checked_add(cluster).is_some_and(|end| end <= length.next_multiple_of(cluster));
    if whole { Ok(()) } else { Err(missing()) }
}

fn entries(file: &File, offset: u64, count: u64, path: &Path) -> Result<Vec<u64>, DiskError> {
    let mut bytes = vec![0; usize::try_from(count * 8).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset).map_err(|error| DiskError::io("read", path, error))?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(entry.try_into().unwrap_or_default())).collect())
}
