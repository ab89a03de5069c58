//! A file with tables of its own, the `hosted sparse extent` ("Virtual Disk Format 5.0", VMware): plain, or packed as a stream.
//! Numbers are little-endian; places are counted in sectors.

use crate::bytes::Header;
use crate::error::{corrupt, unsupported};
use crate::pages::{Cache, Pages};
use crate::read::mapped::{Map, Packed, Place, Run};
use crate::read::unpack;
use crate::{ImageError, MAX_DISK, Result, Storage};

pub const MAGIC: &[u8] = b"KDMV";
const SECTOR: u64 = 512;
/// Where the directory is said to be when only the end of the file tells.
const AT_END: u64 = u64::MAX;
const MAX_GRAIN: u64 = 1 << 20;
const MAX_TABLE: u64 = 64 << 10;
/// Bytes before a packed grain: where it belongs, and its length.
const MARKER: usize = 12;

mod flag {
    pub const ZEROED_GRAINS: u32 = 1 << 2;
    pub const COMPRESSED: u32 = 1 << 16;
    pub const MARKERS: u32 = 1 << 17;
}

/// The map of such a file.
pub struct Sparse {
    pages: Pages,
    size: u64,
    grain: u64,
    /// Entries of a table.
    entries: u64,
    /// Where the directory of the tables is, bytes.
    directory: u64,
    zeroed_grains: bool,
    packed: bool,
    /// The descriptor within it.
    descriptor: Option<Vec<u8>>,
}

impl Sparse {
    /// Opens one; the pages of its tables are kept in `cache`.
    pub fn open(storage: Storage, cache: &Cache) -> Result<Self> {
        let mut start = header(&storage, 0)?;
        if Header(&start).le64(56) == AT_END {
            // The end of a stream is its header again, and a sector that says that it ends.
            start = header(&storage, storage.length().saturating_sub(2 * SECTOR))?;
        }
        let header = Header(&start);
        let version = header.le32(4);
        if !(1..=3).contains(&version) {
            return Err(unsupported(format!("version {version} of VMDK")));
        }
        let flags = header.le32(8);
        let packed = flags & flag::COMPRESSED != 0;
        if packed && (header.le16(77) != 1 || flags & flag::MARKERS == 0) {
            return Err(unsupported("a compression that is not known"));
        }
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR);
        let (size, grain, entries) =
            (bytes(header.le64(12)), bytes(header.le64(20)), u64::from(header.le32(44)));
        if size > MAX_DISK {
            return Err(unsupported(format!("a size of {size} bytes")));
        }
        if !grain.is_power_of_two() || !(SECTOR..=MAX_GRAIN).contains(&grain) {
            return Err(corrupt(format!("its grains have the impossible size of {grain} bytes")));
        }
        if !(1..=MAX_TABLE).contains(&entries) {
            return Err(corrupt(format!("its tables have the impossible length of {entries}")));
        }
        let directory = bytes(header.le64(56));
        let needed = size.div_ceil(grain * entries) * 4;
        if directory.checked_add(needed).is_none_or(|end| end > storage.length()) {
            return Err(ImageError::Truncated("the directory of its tables is not there".to_owned()));
        }
        let described = (header.le64(28), header.le64(36));
        let descriptor = match described {
            (0, _) | (_, 0) => None,
            (at, length) => {
                let most = usize::try_from(bytes(length)).unwrap_or(usize::MAX).min(super::descriptor::MAX);
                Some(storage.bytes(bytes(at), most)?)
            }
        };
        Ok(Self {
            size,
            grain,
            entries,
            directory,
            zeroed_grains: flags & flag::ZEROED_GRAINS != 0,
            packed,
            descriptor,
            pages: cache.pages(storage),
        })
    }

    pub fn descriptor(&self) -> Option<&[u8]> {
        self.descriptor.as_deref()
    }
}

fn header(storage: &Storage, at: u64) -> Result<Vec<u8>> {
    let bytes = storage.bytes(at, SECTOR as usize)?;
    if bytes.len() < SECTOR as usize || !bytes.starts_with(MAGIC) {
        return Err(ImageError::Truncated("the header at its end is not there".to_owned()));
    }
    // An end of line of each kind: a transfer as text has changed them.
    if bytes[73..77] != *b"\n \r\n" {
        return Err(corrupt("its ends of lines were changed, as by a transfer as text"));
    }
    Ok(bytes)
}

impl Map for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Storage] {
        std::slice::from_ref(self.pages.storage())
    }

    fn grain(&self, _: usize) -> Option<u64> {
        Some(if self.packed { SECTOR } else { self.grain })
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let reach = self.grain * self.entries;
        let table = u64::from(self.pages.le32(self.directory + at / reach * 4)?);
        if table == 0 {
            return Ok(Run { length: reach - at % reach, place: Place::Below });
        }
        let within = at % self.grain;
        let entry = self.pages.le32(table * SECTOR + at % reach / self.grain * 4)?;
        let place = match u64::from(entry) {
            0 => Place::Below,
            1 if self.zeroed_grains => Place::Zero,
            sector if self.packed => Place::Packed(Packed {
                file: 0,
                at: sector * SECTOR,
                length: self.grain + SECTOR,
                size: self.grain as usize,
                skip: within as usize,
            }),
            sector => Place::Plain { file: 0, at: sector * SECTOR + within },
        };
        Ok(Run { length: self.grain - within, place })
    }

    fn unpack(&self, packed: &Packed, into: &mut [u8]) -> Result<()> {
        let mut bytes = self.pages.storage().bytes(packed.at, SECTOR as usize)?;
        if bytes.len() < MARKER {
            return Err(ImageError::Truncated("some of its data is not there".to_owned()));
        }
        let length = Header(&bytes).le32(8) as usize;
        // What cannot be packed takes a little more than it is.
        if length == 0 || length > 2 * self.grain as usize {
            return Err(corrupt(format!("a packed grain has the impossible length of {length} bytes")));
        }
        let first = bytes.len();
        if MARKER + length > first {
            bytes.resize(MARKER + length, 0);
            self.pages.storage().read_at(&mut bytes[first..], packed.at + first as u64)?;
        }
        let bytes = &bytes[MARKER..MARKER + length];
        unpack::deflate(true, bytes, into)
    }
}
