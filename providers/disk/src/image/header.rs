//! The header of a qcow2 image (QEMU's `docs/interop/qcow2.txt`, "Header" and "Header extensions"). Numbers are
//! big-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use posada_provider_api::DiskFormat;

use crate::DiskError;

/// First bytes of every image.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Length of version 2's header, bytes.
const V2_LENGTH: usize = 72;
/// Length of version 3's header without optional fields, bytes.
pub const V3_LENGTH: usize = 104;
/// Type of the extension that names the format of the backing file.
pub const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Longest name of a backing file, bytes.
pub const MAX_NAME: usize = 1023;
/// Largest first-level table, entries: what QEMU takes, 32 MiB.
const MAX_L1: u64 = 4 << 20;
/// Most header extensions that are looked at.
const MAX_EXTENSIONS: usize = 64;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Size of the disk, bytes.
    pub size: u64,
    /// A cluster is two to this power bytes.
    pub cluster_bits: u32,
    /// Entries of the first-level table.
    pub l1_entries: u64,
    /// Where the first-level table is, bytes from the start.
    pub l1_offset: u64,
    /// The file below, as it is written there.
    pub backing: Option<String>,
    /// The format of the file below, where it says.
    pub backing_format: Option<DiskFormat>,
}

impl Header {
    /// Reads and judges the header of `file`; `path` is what errors call it.
    pub fn read(file: &File, path: &Path) -> Result<Self, DiskError> {
        let length = file.metadata().map_err(|error| DiskError::io("read", path, error))?.len();
        // Header, extensions and the name of the backing file are within the first cluster.
        let mut start = vec![0; usize::try_from(length.min(2 << 20)).unwrap_or(0)];
        file.read_exact_at(&mut start, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DiskError::truncated(path, "its header is not whole"),
            _ => DiskError::io("read", path, error),
        })?;
        Self::parse(&start, length, path)
    }

    /// Judges a header; `start` is the file's first cluster at least, or all of it, and `length` the file's length.
    pub fn parse(start: &[u8], length: u64, path: &Path) -> Result<Self, DiskError> {
        let short = || DiskError::truncated(path, "its header is not whole");
        let unsupported =
            |what: &str| DiskError::Unsupported { path: path.to_owned(), what: what.to_owned() };
        if start.len() < V2_LENGTH {
            return Err(short());
        }
        let version = be32(start, 4).ok_or_else(short)?;
        if !start.starts_with(&MAGIC) || !(2..=3).contains(&version) {
            return Err(unsupported(&format!("version {version} of qcow2")));
        }
        let header_length = match version {
            2 => V2_LENGTH,
            _ => be32(start, 100).ok_or_else(short)? as usize,
        };
        if version == 3 && !(V3_LENGTH..=4096).contains(&header_length) {
            return Err(DiskError::corrupt(path, "its header has an impossible length"));
        }
        if version == 3 {
            let features = be64(start, 72).ok_or_else(short)?;
            let compression =
                if header_length > V3_LENGTH { start.get(104).copied().unwrap_or(0) } else { 0 };
            if features & CORRUPT != 0 {
                return Err(DiskError::corrupt(path, "it is marked as corrupt"));
            }
            for (bit, what) in [
                (EXTERNAL_DATA, "an external data file"),
                (EXTENDED_L2, "subclusters"),
                (
                    !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2),
                    "features that are not known",
                ),
            ] {
                if features & bit != 0 {
                    return Err(unsupported(what));
                }
            }
            if features & COMPRESSION_TYPE != 0 && compression != 0 {
                return Err(unsupported("zstd compression"));
            }
        }
        if be32(start, 32).ok_or_else(short)? != 0 {
            return Err(unsupported("encryption"));
        }
        let cluster_bits = be32(start, 20).ok_or_else(short)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(DiskError::corrupt(path, "its clusters have an impossible size"));
        }
        let header = Self {
            size: be64(start, 24).ok_or_else(short)?,
            cluster_bits,
            l1_entries: u64::from(be32(start, 36).ok_or_else(short)?),
            l1_offset: be64(start, 40).ok_or_else(short)?,
            backing: backing_name(start, cluster_bits, path)?,
            backing_format: backing_format(start, header_length, path)?,
        };
        header.judge(length, path)?;
        Ok(header)
    }

    /// How many entries the first-level table needs for the disk's size.
    pub fn l1_needed(size: u64, cluster_bits: u32) -> u64 {
        // An entry of it stands for a cluster full of entries of eight bytes, each of which stands for a cluster.
        size.div_ceil(1 << (2 * cluster_bits - 3))
    }

    fn judge(&self, length: u64, path: &Path) -> Result<(), DiskError> {
        if self.l1_entries > MAX_L1 {
            return Err(DiskError::corrupt(path, "its first table has an impossible size"));
        }
        if self.size <= super::MAX_DISK && Self::l1_needed(self.size, self.cluster_bits) > self.l1_entries {
            return Err(DiskError::corrupt(path, "its first table is too small for its disk"));
        }
        if !self.l1_offset.is_multiple_of(1 << self.cluster_bits) {
            return Err(DiskError::corrupt(path, "its first table is at an impossible place"));
        }
        match self.l1_offset.checked_add(self.l1_entries * 8) {
            Some(end) if end <= length => Ok(()),
            _ => Err(DiskError::truncated(path, "its first table is not there")),
        }
    }
}

fn backing_name(start: &[u8], cluster_bits: u32, path: &Path) -> Result<Option<String>, DiskError> {
    let (offset, length) = (be64(start, 8).unwrap_or(0), be32(start, 16).unwrap_or(0) as usize);
    if offset == 0 {
        return Ok(None);
    }
    let bad = || DiskError::corrupt(path, "the name of its backing file cannot be read");
    let from = usize::try_from(offset).map_err(|_| bad())?;
    let end = from.checked_add(length).filter(|end| *end <= 1 << cluster_bits).ok_or_else(bad)?;
    if length == 0 || length > MAX_NAME {
        return Err(bad());
    }
    let name = start.get(from..end).ok_or_else(bad)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| bad())?;
    if name.contains('\0') { Err(bad()) } else { Ok(Some(name)) }
}

fn backing_format(start: &[u8], mut at: usize, path: &Path) -> Result<Option<DiskFormat>, DiskError> {
    for _ in 0..MAX_EXTENSIONS {
        let (Some(kind), Some(length)) = (be32(start, at), be32(start, at + 4)) else { return Ok(None) };
        match kind {
            0 => return Ok(None),
            BACKING_FORMAT => {
                let text = start.get(at + 8..).and_then(|rest| rest.get(..length as usize));
                return match text {
                    Some(b"raw") => Ok(Some(DiskFormat::Raw)),
                    Some(b"qcow2") => Ok(Some(DiskFormat::Qcow2)),
                    _ => Err(DiskError::Unsupported {
                        path: path.to_owned(),
                        what: "a backing file that is neither raw nor qcow2".to_owned(),
                    }),
                };
            }
            // Extensions are padded to eight bytes.
            _ => at += 8 + (length as usize).next_multiple_of(8),
        }
    }
    Ok(None)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_in_a_header_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), v in 2u8..4, known in any::<bool>()) {
            if bytes.len() > 8 && known {
                bytes[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, v]);
            }
            let _ = Header::parse(&bytes, bytes.len() as u64, Path::new("x"));
        }
    }

    #[test]
    fn tables_are_as_large_as_disks_ask_for() {
        assert_eq!(Header::l1_needed(1, 16), 1);
        assert_eq!(Header::l1_needed(512 << 20, 16), 1);
        assert_eq!(Header::l1_needed((512 << 20) + 1, 16), 2);
    }
}
