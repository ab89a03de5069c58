//! What an entry of an L2 table says.

use std::io;

/// The refcount is exactly one: the cluster may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros (version 3).
pub(super) const ZERO: u64 = 1;
/// Where table or cluster lies.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Where the bytes of a cluster of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Not in this image: in the backing file, or zero.
    Unallocated,
    /// Zero; a host cluster may be kept for it all the same.
    Zero { host: Option<u64> },
    /// At this offset; `copied` says that nobody else refers to it.
    Data { host: u64, copied: bool },
    /// Compressed, in at most `len` bytes from `offset`.
    Compressed { offset: u64, len: u32 },
}

impl Mapping {
    /// Reads an entry of an image with clusters of `1 << cluster_bits` bytes.
    ///
    /// # Errors
    /// `InvalidData` where it makes no sense.
    pub fn decode(entry: u64, cluster_bits: u32, version: u32) -> io::Result<Self> {
        if entry & COMPRESSED != 0 {
            let shift = 62 - (cluster_bits - 8);
            let offset = entry & ((1 << shift) - 1) & ((1 << 56) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> shift) as u32 + 1;
            return Ok(Self::Compressed { offset, len: sectors * 512 - (offset as u32 & 511) });
        }
        let host = entry & OFFSET;
        if !host.is_multiple_of(1 << cluster_bits) {
            return Err(corrupt("an L2 entry leads between clusters"));
        }
        let zero = version >= 3 && entry & ZERO != 0;
        Ok(match (zero, host) {
            (true, 0) => Self::Zero { host: None },
            (true, host) => Self::Zero { host: Some(host) },
            (false, 0) => Self::Unallocated,
            (false, host) => Self::Data { host, copied: entry & COPIED != 0 },
        })
    }
}

/// An error that says that the image makes no sense.
pub(super) fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
