//! qcow2, versions 2 and 3 (QEMU's `docs/interop/qcow2.txt`). Numbers are big-endian.
//!
//! Written for images from elsewhere, and so without the parts that machines need while they run; it reads zstd clusters and
//! subclusters, which `imago` does not.

use super::mapped::{Map, Packed, Place, Run};
use super::unpack;
use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
use crate::pages::Pages;
use crate::{ImageError, MAX_DISK, Result, Storage};

/// Largest first-level table, entries: what QEMU takes, 32 MiB.
const MAX_L1: u64 = 4 << 20;
/// Longest name of a backing file, bytes.
const MAX_NAME: usize = 1023;
/// Bits of an entry that hold an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

mod feature {
    pub const DIRTY: u64 = 1;
    pub const CORRUPT: u64 = 1 << 1;
    pub const EXTERNAL_DATA: u64 = 1 << 2;
    pub const COMPRESSION_TYPE: u64 = 1 << 3;
    pub const EXTENDED_L2: u64 = 1 << 4;
}

/// Subclusters of a cluster.
const SUBCLUSTERS: u64 = 32;

/// An image's map.
pub struct Qcow2 {
    pages: Pages,
    size: u64,
    cluster: u64,
    l1: u64,
    zstd: bool,
    extended: bool,
    version: u32,
    backing: Option<String>,
}

/// Whether the image that begins with `start` uses zstd or subclusters, which not every reader knows.
pub fn is_special(start: &[u8]) -> bool {
    let header = Header(start);
    let features = if header.be32(4) >= 3 { header.be64(72) } else { 0 };
    features & feature::EXTENDED_L2 != 0 || (features & feature::COMPRESSION_TYPE != 0 && header.u8(104) != 0)
}

impl Qcow2 {
    pub fn open(storage: Storage) -> Result<Self> {
        let start = storage.bytes(0, 2 << 20)?;
        let header = Header(&start);
        let version = header.be32(4);
        if start.len() < 72 || (version == 3 && start.len() < 104) {
            return Err(ImageError::Truncated("its header is not whole".to_owned()));
        }
        let features = match version {
            2 => 0,
            3 => header.be64(72),
            other => return Err(unsupported(format!("version {other} of qcow2"))),
        };
        let known = feature::DIRTY | feature::CORRUPT | feature::COMPRESSION_TYPE | feature::EXTENDED_L2;
        if features & feature::CORRUPT != 0 {
            return Err(corrupt("it is marked as corrupt"));
        }
        if features & feature::EXTERNAL_DATA != 0 {
            return Err(unsupported("an external data file"));
        }
        if features & !known != 0 {
            return Err(unsupported("features of qcow2 that are not known"));
        }
        let compression = if features & feature::COMPRESSION_TYPE != 0 { header.u8(104) } else { 0 };
        if compression > 1 {
            return Err(unsupported(format!("compression type {compression}")));
        }
        if header.be32(32) != 0 {
            return Err(unsupported("encryption"));
        }
        let (bits, extended) = (header.be32(20), features & feature::EXTENDED_L2 != 0);
        if !(9..=21).contains(&bits) || (extended && bits < 14) {
            return Err(corrupt("its clusters have an impossible size"));
        }
        let image = Self {
            size: header.be64(24),
            cluster: 1 << bits,
            l1: header.be64(40),
            zstd: compression == 1,
            extended,
            version,
            backing: backing_name(header, 1 << bits)?,
            pages: Pages::new(storage),
        };
        image.judge(u64::from(header.be32(36)))?;
        Ok(image)
    }

    /// The file it stands on, as it is written there.
    pub fn backing(&self) -> Option<&str> {
        self.backing.as_deref()
    }

    fn judge(&self, l1_entries: u64) -> Result<()> {
        if self.size > MAX_DISK {
            return Err(unsupported(format!("a size of {} bytes", self.size)));
        }
        if l1_entries > MAX_L1 || self.size.div_ceil(self.reach()) > l1_entries {
            return Err(corrupt("its first table has an impossible size"));
        }
        if !self.l1.is_multiple_of(self.cluster) {
            return Err(corrupt("its first table is at an impossible place"));
        }
        let end = self.l1.checked_add(l1_entries * 8);
        if end.is_none_or(|end| end > self.pages.storage().length()) {
            return Err(ImageError::Truncated("its first table is not there".to_owned()));
        }
        Ok(())
    }

    fn entry_size(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Bytes of the disk that one second-level table stands for.
    fn reach(&self) -> u64 {
        self.cluster / self.entry_size() * self.cluster
    }

    fn compressed(&self, entry: u64, within: u64) -> Packed {
        let bits = 62 - (self.cluster.trailing_zeros() - 8);
        let at = entry & ((1 << bits) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> bits;
        // The last sector may be cut where the file ends.
        let end = ((at & !511) + (sectors + 1) * 512).min(self.pages.storage().length());
        Packed {
            file: 0,
            at,
            length: end.saturating_sub(at),
            size: self.cluster as usize,
            skip: within as usize,
        }
    }

    /// What is in a cluster from `within` on, where it has bits for its subclusters.
    fn subclusters(&self, entry: u64, bits: u64, within: u64) -> Result<Run> {
        let size = self.cluster / SUBCLUSTERS;
        let (allocated, zero) = (bits as u32, (bits >> 32) as u32);
        if allocated & zero != 0 || (allocated != 0 && entry & OFFSET == 0) {
            return Err(corrupt("the bits of its subclusters contradict each other"));
        }
        let kind = |number: u64| (allocated >> number & 1, zero >> number & 1);
        let first = within / size;
        let same = (first..SUBCLUSTERS).take_while(|number| kind(*number) == kind(first)).count() as u64;
        let place = match kind(first) {
            (1, _) => Place::Plain { file: 0, at: self.offset(entry)? + within },
            (_, 1) => Place::Zero,
            _ => Place::Below,
        };
        Ok(Run { length: (first + same) * size - within, place })
    }

    fn offset(&self, entry: u64) -> Result<u64> {
        let at = entry & OFFSET;
        if !at.is_multiple_of(self.cluster) {
            return Err(corrupt("some of its data is at an impossible place"));
        }
        Ok(at)
    }
}

impl Map for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Storage] {
        std::slice::from_ref(self.pages.storage())
    }

    fn grain(&self, _: usize) -> Option<u64> {
        Some(if self.extended { self.cluster / SUBCLUSTERS } else { self.cluster })
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let table = self.pages.be64(self.l1 + at / self.reach() * 8)?;
        if table & OFFSET == 0 {
            return Ok(Run { length: self.reach() - at % self.reach(), place: Place::Below });
        }
        let place = self.offset(table)? + at % self.reach() / self.cluster * self.entry_size();
        let entry = self.pages.be64(place)?;
        let within = at % self.cluster;
        let run = |place| Ok(Run { length: self.cluster - within, place });
        if entry & COMPRESSED != 0 {
            return run(Place::Packed(self.compressed(entry, within)));
        }
        if self.extended {
            return self.subclusters(entry, self.pages.be64(place + 8)?, within);
        }
        if entry & ZERO != 0 && self.version >= 3 {
            return run(Place::Zero);
        }
        match self.offset(entry)? {
            0 => run(Place::Below),
            offset => run(Place::Plain { file: 0, at: offset + within }),
        }
    }

    fn unpack(&self, packed: &Packed, into: &mut [u8]) -> Result<()> {
        let most = usize::try_from(packed.length).unwrap_or(usize::MAX).min(2 * self.cluster as usize + 1024);
        let bytes = self.pages.storage().bytes(packed.at, most)?;
        if self.zstd { unpack::zstd(&bytes, into) } else { unpack::deflate(false, &bytes, into) }
    }
}

fn backing_name(header: Header<'_>, cluster: u64) -> Result<Option<String>> {
    let (offset, length) = (header.be64(8), header.be32(16) as usize);
    if offset == 0 {
        return Ok(None);
    }
    let bad = || corrupt("the name of its backing file cannot be read");
    let from = usize::try_from(offset).map_err(|_| bad())?;
    let end = from.checked_add(length).filter(|end| *end as u64 <= cluster).ok_or_else(bad)?;
    let name = header.0.get(from..end).filter(|_| (1..=MAX_NAME).contains(&length)).ok_or_else(bad)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| bad())?;
    if name.contains('\0') { Err(bad()) } else { Ok(Some(name)) }
}
