//! ext2, ext3 and ext4, read by `ext4-view`, which takes a journal that was not replayed into account.

use std::error::Error;
use std::path::{Path, PathBuf};

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::{Files, MAX_NAMES};
use crate::{DiskError, Image, Partition};

/// Largest block, bytes.
const MAX_BLOCK: u64 = 64 << 10;
/// Most groups of blocks, which are all kept in memory: 16 TiB with the usual 128 MiB a group.
const MAX_GROUPS: u64 = 128 << 10;

/// An open file system.
#[derive(Debug)]
pub struct Ext4Files {
    path: PathBuf,
    files: Ext4,
}

/// The disk's bytes of one partition.
struct Window {
    disk: Image,
    offset: u64,
    length: u64,
}

impl Ext4Read for Window {
    fn read(&mut self, start: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        if start.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err("it names a block beyond its end".into());
        }
        Ok(self.disk.read_at(self.offset + start, buffer)?)
    }
}

/// Opens the file system on `partition`, which begins with `start`; with its UUID and its label.
pub fn open(
    disk: &Image,
    partition: &Partition,
    start: &[u8],
) -> Result<(Ext4Files, String, Option<String>), DiskError> {
    judge(disk.path(), partition, start)?;
    let window = Window { disk: disk.clone(), offset: partition.offset, length: partition.length };
    let files = Ext4::load(Box::new(window)).map_err(|error| fault(disk.path(), "/", &error))?;
    let uuid = files.uuid().to_string();
    let label = files.label().to_str().ok().filter(|label| !label.is_empty()).map(str::to_owned);
    Ok((Ext4Files { path: disk.path().to_owned(), files }, uuid, label))
}

/// Refuses what would have the library take memory without bounds (the Linux kernel's
/// `Documentation/filesystems/ext4`, "Super Block").
fn judge(path: &Path, partition: &Partition, start: &[u8]) -> Result<(), DiskError> {
    let corrupt = |what: &str| Err(DiskError::corrupt(path, format!("its ext4 file system {what}")));
    let Some(superblock) = start.get(1024..2048) else {
        return Err(DiskError::truncated(path, "its ext4 file system is not whole"));
    };
    let field = |at: usize| {
        let bytes = superblock[at..at + 4].try_into().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes))
    };
    const INCOMPATIBLE_64BIT: u64 = 0x80;
    let high = if field(0x60) & INCOMPATIBLE_64BIT != 0 { field(0x150) } else { 0 };
    let (blocks, block_bits, group) = (high << 32 | field(0x04), field(0x18), field(0x20));
    if block_bits > 6 {
        return corrupt("has blocks of an impossible size");
    }
    let block = 1024 << block_bits;
    debug_assert!(block <= MAX_BLOCK);
    if group == 0 || blocks.div_ceil(group) > MAX_GROUPS {
        return corrupt("has an impossible number of block groups");
    }
    match blocks.checked_mul(block) {
        Some(size) if size <= partition.length => Ok(()),
        _ => Err(DiskError::truncated(path, "its ext4 file system is larger than its partition")),
    }
}

impl Files for Ext4Files {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let mut file = match self.files.open(path) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(fault(&self.path, path, &error)),
        };
        let length = file.metadata().len();
        if length > limit {
            let what = format!("its `{path}` has {length} bytes, where {limit} are the limit");
            return Err(DiskError::Absurd { path: self.path.clone(), what });
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_bytes(&mut bytes[done..]).map_err(|error| fault(&self.path, path, &error))? {
                0 => break,
                more => done += more,
            }
        }
        bytes.truncate(done);
        Ok(Some(bytes))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let entries = match self.files.read_dir(path) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            Err(error) => return Err(fault(&self.path, path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries.take(MAX_NAMES) {
            let entry = entry.map_err(|error| fault(&self.path, path, &error))?;
            names.extend(
                entry
                    .file_name()
                    .as_str()
                    .ok()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.files.exists(path).unwrap_or(false)
    }
}

/// Whether it means that there is no such file, or nothing that is one.
fn is_absence(error: &Ext4Error) -> bool {
    matches!(
        error,
        Ext4Error::NotFound
            | Ext4Error::NotADirectory
            | Ext4Error::IsADirectory
            | Ext4Error::IsASpecialFile
            | Ext4Error::TooManySymlinks
            | Ext4Error::NotAbsolute
            | Ext4Error::MalformedPath
            | Ext4Error::PathTooLong
    )
}

fn fault(path: &Path, file: &str, error: &Ext4Error) -> DiskError {
    match error {
        Ext4Error::Incompatible(_) | Ext4Error::Encrypted => {
            let what = format!("an ext4 file system with a feature of its own ({error})");
            DiskError::Unsupported { path: path.to_owned(), what }
        }
        Ext4Error::Io(inner) => DiskError::corrupt(path, format!("reading its `{file}`: {inner}")),
        _ => DiskError::corrupt(path, format!("reading its `{file}`: {error}")),
    }
}
