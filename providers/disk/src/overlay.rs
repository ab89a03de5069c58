//! A machine's own disk: a qcow2 image that holds nothing but what differs from the box's disk below it.
//!
//! Written by hand, as it is four clusters that never look otherwise: header, table of reference counts, one block of
//! reference counts, and the first-level table, all of it zero (`docs/interop/qcow2.txt`).

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use posada_provider_api::DiskFormat;

use crate::DiskError;
use crate::image::header::{BACKING_FORMAT, Header, MAGIC, MAX_NAME, V3_LENGTH};
use crate::image::{Backing, Image, MAX_DISK};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What a disk's size is rounded up to, bytes: a sector.
const SECTOR: u64 = 512;

/// What an overlay says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Size of the disk, bytes.
    pub size: u64,
    /// The image below.
    pub base: PathBuf,
    /// The format of the image below.
    pub base_format: DiskFormat,
}

/// Makes a new, empty overlay at `path` over the image `base`, as large as `size` bytes, or as `base` where that is
/// `None`. It appears whole, and takes the place of what was there.
///
/// # Errors
/// [`DiskError::TooSmall`] where `size` is smaller than the base, [`DiskError::Absurd`] where it is above
/// [`MAX_DISK`], those of [`Image::open`] for `base`, [`DiskError::Full`], [`DiskError::Io`].
pub fn create(path: &Path, base: &Path, size: Option<u64>) -> Result<Overlay, DiskError> {
    let base = std::path::absolute(base).map_err(|error| DiskError::io("find", base, error))?;
    let below = Image::open(&base, Backing::Followed)?;
    let size = size.unwrap_or(below.size());
    if size < below.size() {
        return Err(DiskError::TooSmall { wanted: size, base: below.size() });
    }
    if size > MAX_DISK {
        let what = format!("a disk of {} TiB, where {} are the limit", size >> 40, MAX_DISK >> 40);
        return Err(DiskError::Absurd { path: path.to_owned(), what });
    }
    let size = size.next_multiple_of(SECTOR);
    let overlay = Overlay { size, base: base.clone(), base_format: below.format() };
    let name = base.to_str().filter(|name| name.len() <= MAX_NAME).ok_or_else(|| DiskError::Unsupported {
        path: base.clone(),
        what: format!("a path that is no UTF-8 or longer than {MAX_NAME} bytes"),
    })?;
    let failed = |error| DiskError::io("write", path, error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let tables = Header::l1_needed(size, CLUSTER_BITS);
    file.write_all(&header(&overlay, name, tables)).map_err(failed)?;
    write_counts(file.as_file(), 3 + (tables * 8).div_ceil(CLUSTER)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(overlay)
}

/// Reads what the overlay at `path` says of itself, without opening what is below.
///
/// # Errors
/// [`DiskError::NotADisk`] where it is no overlay, those of [`Image::open`].
pub fn read(path: &Path) -> Result<Overlay, DiskError> {
    let file = File::open(path).map_err(|error| DiskError::io("open", path, error))?;
    let header = Header::read(&file, path)?;
    match (header.backing, header.backing_format) {
        (Some(base), Some(base_format)) => Ok(Overlay { size: header.size, base: base.into(), base_format }),
        _ => Err(DiskError::NotADisk {
            path: path.to_owned(),
            what: "it does not say what is below it, and in what format".to_owned(),
        }),
    }
}

/// The first cluster.
fn header(overlay: &Overlay, name: &str, tables: u64) -> Vec<u8> {
    let format: &[u8] = match overlay.base_format {
        DiskFormat::Raw => b"raw\0\0\0\0\0",
        DiskFormat::Qcow2 => b"qcow2\0\0\0",
    };
    let format_length: u32 = match overlay.base_format {
        DiskFormat::Raw => 3,
        DiskFormat::Qcow2 => 5,
    };
    // The extension, the end of extensions, and then the name.
    let name_at = V3_LENGTH as u64 + 8 + format.len() as u64 + 8;
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend(MAGIC);
    bytes.extend(3_u32.to_be_bytes());
    bytes.extend(name_at.to_be_bytes());
    bytes.extend((name.len() as u32).to_be_bytes());
    bytes.extend(CLUSTER_BITS.to_be_bytes());
    bytes.extend(overlay.size.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes()); // not encrypted
    bytes.extend((tables as u32).to_be_bytes());
    bytes.extend((3 * CLUSTER).to_be_bytes()); // the first-level table
    bytes.extend(CLUSTER.to_be_bytes()); // the table of reference counts …
    bytes.extend(1_u32.to_be_bytes()); // … of one cluster
    bytes.extend([0; 12]); // no snapshots
    bytes.extend([0; 24]); // no features: incompatible, compatible, autoclear
    bytes.extend(4_u32.to_be_bytes()); // counts of two to the fourth bits
    bytes.extend((V3_LENGTH as u32).to_be_bytes());
    bytes.extend(BACKING_FORMAT.to_be_bytes());
    bytes.extend(format_length.to_be_bytes());
    bytes.extend(format);
    bytes.extend([0; 8]);
    bytes.extend(name.as_bytes());
    bytes
}

/// One reference to each of the first `clusters` clusters, which are all there are.
fn write_counts(file: &File, clusters: u64) -> std::io::Result<()> {
    file.set_len(clusters * CLUSTER)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    let counts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    file.write_all_at(&counts, 2 * CLUSTER)
}
