//! The header of a qcow2 image, versions 2 and 3, with its extensions.

/// At most so many bytes of a file can belong to its header: it lies in the first cluster.
pub(super) const MAX_HEADER: usize = 64 << 10;

const MAGIC: u32 = u32::from_be_bytes(*b"QFI\xfb");
const BACKING_FORMAT: u32 = 0xe279_2aca;
const MAX_BACKING_NAME: u32 = 1023;
/// The largest tables that are believed: 32 MiB and 8 MiB.
const MAX_L1_ENTRIES: u32 = 4 << 20;
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate.
    Deflate,
    /// Zstandard.
    Zstd,
}

/// What a header says, checked as far as it can be by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// 2 or 3.
    pub version: u32,
    /// 9 to 21.
    pub cluster_bits: u32,
    /// Bytes of the disk.
    pub size: u64,
    pub l1_offset: u64,
    pub l1_entries: u32,
    pub refcount_offset: u64,
    /// Bytes of the refcount table.
    pub refcount_len: u64,
    /// Refcounts have `1 << order` bits.
    pub refcount_order: u32,
    pub snapshots: u32,
    pub dirty: bool,
    pub corrupt: bool,
    pub autoclear: u64,
    pub compression: Compression,
    pub backing: Option<Backing>,
}

/// The backing file that a header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    pub name: Vec<u8>,
    pub format: Option<Vec<u8>>,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    Corrupt(&'static str),
    Unsupported(&'static str),
}

use HeaderError::{Corrupt, Unsupported};

impl Header {
    /// Reads the header at the beginning of `bytes`, which are the first of the file, up to [`MAX_HEADER`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if be32(bytes, 0)? != MAGIC {
            return Err(Corrupt("it does not begin as one"));
        }
        let version = be32(bytes, 4)?;
        if !matches!(version, 2 | 3) {
            return Err(Unsupported("an unknown version of qcow2"));
        }
        let cluster_bits = be32(bytes, 20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Corrupt("its cluster size is out of range"));
        }
        if be32(bytes, 32)? != 0 {
            return Err(Unsupported("encryption"));
        }
        let v3 = version >= 3;
        let incompatible = if v3 { be64(bytes, 72)? } else { 0 };
        let header_len = if v3 { be32(bytes, 100)? } else { 72 };
        if (v3 && header_len < 104) || header_len % 8 != 0 || header_len as usize > bytes.len() {
            return Err(Corrupt("its header has an impossible length"));
        }
        let refcount_order = if v3 { be32(bytes, 96)? } else { 4 };
        if refcount_order > 6 {
            return Err(Corrupt("its refcounts have an impossible width"));
        }
        if incompatible & DATA_FILE != 0 {
            return Err(Unsupported("an external data file"));
        }
        if incompatible & EXTENDED_L2 != 0 {
            return Err(Unsupported("extended L2 entries"));
        }
        if incompatible & !(DIRTY | CORRUPT | COMPRESSION) != 0 {
            return Err(Unsupported("an unknown incompatible feature"));
        }
        let header = Self {
            version,
            cluster_bits,
            size: be64(bytes, 24)?,
            l1_offset: be64(bytes, 40)?,
            l1_entries: be32(bytes, 36)?,
            refcount_offset: be64(bytes, 48)?,
            refcount_len: u64::from(be32(bytes, 56)?) << cluster_bits,
            refcount_order,
            snapshots: be32(bytes, 60)?,
            dirty: incompatible & DIRTY != 0,
            corrupt: incompatible & CORRUPT != 0,
            autoclear: if v3 { be64(bytes, 88)? } else { 0 },
            compression: compression(bytes, incompatible, header_len)?,
            backing: backing(bytes, header_len as usize)?,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), HeaderError> {
        let cluster = 1_u64 << self.cluster_bits;
        let aligned = |offset: u64| offset.is_multiple_of(cluster) && offset >= cluster && offset < 1 << 56;
        if self.size > i64::MAX as u64 >> 9 << 9 {
            return Err(Corrupt("its disk is impossibly large"));
        }
        // One L1 entry stands for a table of `cluster / 8` clusters.
        let per_l1 = 1_u64 << (2 * self.cluster_bits - 3);
        if self.l1_entries > MAX_L1_ENTRIES || self.size.div_ceil(per_l1) > u64::from(self.l1_entries) {
            return Err(Corrupt("its L1 table is too small or too large"));
        }
        if self.l1_entries > 0 && !aligned(self.l1_offset) {
            return Err(Corrupt("its L1 table lies nowhere"));
        }
        if self.refcount_len == 0 || self.refcount_len > MAX_REFCOUNT_TABLE.max(cluster) {
            return Err(Corrupt("its refcount table is too small or too large"));
        }
        if !aligned(self.refcount_offset) {
            return Err(Corrupt("its refcount table lies nowhere"));
        }
        Ok(())
    }
}

fn compression(bytes: &[u8], incompatible: u64, header_len: u32) -> Result<Compression, HeaderError> {
    let kind = if header_len > 104 { *bytes.get(104).ok_or(Corrupt("its header is cut off"))? } else { 0 };
    match (kind, incompatible & COMPRESSION != 0) {
        (0, false) => Ok(Compression::Deflate),
        (1, true) => Ok(Compression::Zstd),
        (0 | 1, _) => Err(Corrupt("its compression type contradicts its features")),
        _ => Err(Unsupported("an unknown compression")),
    }
}

fn backing(bytes: &[u8], header_len: usize) -> Result<Option<Backing>, HeaderError> {
    let offset = be64(bytes, 8)?;
    let len = be32(bytes, 16)?;
    if offset == 0 {
        return Ok(None);
    }
    if len == 0 || len > MAX_BACKING_NAME {
        return Err(Corrupt("the name of its backing file has an impossible length"));
    }
    let start = usize::try_from(offset).map_err(|_| Corrupt("the name of its backing file lies nowhere"))?;
    let end = start.checked_add(len as usize);
    let name = end.and_then(|end| bytes.get(start..end));
    let name = name.ok_or(Corrupt("the name of its backing file lies nowhere"))?.to_vec();
    Ok(Some(Backing { name, format: extension(bytes, header_len, BACKING_FORMAT)? }))
}

/// The header extension of type `wanted`.
fn extension(bytes: &[u8], mut at: usize, wanted: u32) -> Result<Option<Vec<u8>>, HeaderError> {
    loop {
        // The extensions may end with the header's room.
        let Ok(kind) = be32(bytes, at) else { return Ok(None) };
        if kind == 0 {
            return Ok(None);
        }
        let len = be32(bytes, at + 4)? as usize;
        let data = at.checked_add(8 + len).and_then(|end| bytes.get(at + 8..end));
        let data = data.ok_or(Corrupt("a header extension is cut off"))?;
        if kind == wanted {
            return Ok(Some(data.to_vec()));
        }
        at += 8 + len.next_multiple_of(8);
    }
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, HeaderError> {
    let field = at.checked_add(4).and_then(|end| bytes.get(at..end)).and_then(|field| field.first_chunk());
    field.map(|field| u32::from_be_bytes(*field)).ok_or(Corrupt("its header is cut off"))
}

fn be64(bytes: &[u8], at: usize) -> Result<u64, HeaderError> {
    let field = at.checked_add(8).and_then(|end| bytes.get(at..end)).and_then(|field| field.first_chunk());
    field.map(|field| u64::from_be_bytes(*field)).ok_or(Corrupt("its header is cut off"))
}
