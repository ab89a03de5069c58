//! Many chunks in one message: records one after the other, as `API.md` has them.
//!
//! ```text
//! 32 bytes  BLAKE3 of the chunk
//!  4 bytes  length of the chunk, little-endian
//!  4 bytes  length of the frame, little-endian
//!           the frame: the chunk, compressed by zstd
//! ```

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::digest::ChunkDigest;

/// The largest chunk, bytes.
pub const MAX_CHUNK: u32 = 16 << 20;
/// The largest frame: what zstd may make of the largest chunk.
const MAX_FRAME: u32 = MAX_CHUNK + (MAX_CHUNK >> 8) + 64;
const HEAD: usize = 40;

/// A chunk as it travels and as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What it is said to be.
    pub digest: ChunkDigest,
    /// Bytes of the chunk, as they are said to be.
    pub length: u32,
    /// The chunk, compressed by zstd.
    pub frame: Bytes,
}

/// A message that is no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// A chunk that is larger than any.
    #[error("a chunk of the bundle has {0} bytes, more than {MAX_CHUNK}")]
    TooLarge(u32),
    /// A chunk without a byte.
    #[error("a chunk of the bundle is empty")]
    Empty,
    /// It ends in the middle of a record.
    #[error("the bundle ends in the middle of a chunk")]
    Truncated,
}

/// Takes a bundle apart while it comes. It holds at most one record and what came with it.
#[derive(Debug, Default)]
pub struct Unbundle {
    buffer: BytesMut,
}

impl Unbundle {
    /// More of the message.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record, where it has come as a whole.
    ///
    /// # Errors
    /// [`InvalidBundle`], before more than the record's head was taken in.
    pub fn take(&mut self) -> Result<Option<Packed>, InvalidBundle> {
        if self.buffer.len() < HEAD {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEAD];
        let mut digest = [0; 32];
        head.copy_to_slice(&mut digest);
        let (length, frame) = (head.get_u32_le(), head.get_u32_le());
        if length > MAX_CHUNK || frame > MAX_FRAME {
            return Err(InvalidBundle::TooLarge(length.max(frame)));
        }
        if length == 0 || frame == 0 {
            return Err(InvalidBundle::Empty);
        }
        let whole = HEAD + frame as usize;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut record = self.buffer.split_to(whole).freeze();
        record.advance(HEAD);
        Ok(Some(Packed { digest: ChunkDigest::from_bytes(digest), length, frame: record }))
    }

    /// That was all.
    ///
    /// # Errors
    /// [`InvalidBundle::Truncated`] where a record is not complete.
    pub fn end(&self) -> Result<(), InvalidBundle> {
        if self.buffer.is_empty() { Ok(()) } else { Err(InvalidBundle::Truncated) }
    }
}

/// The head of a record, which its frame follows.
#[must_use]
pub fn head(packed: &Packed) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD);
    head.put_slice(packed.digest.as_bytes());
    head.put_u32_le(packed.length);
    head.put_u32_le(u32::try_from(packed.frame.len()).unwrap_or(u32::MAX));
    head.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(frame: &[u8]) -> Packed {
        Packed { digest: ChunkDigest::of(frame), length: 7, frame: Bytes::copy_from_slice(frame) }
    }

    #[test]
    fn what_is_no_bundle_is_refused_by_its_head() {
        let mut large = Unbundle::default();
        large.feed(&head(&Packed { length: MAX_CHUNK + 1, ..packed(b"x") }));
        assert_eq!(large.take(), Err(InvalidBundle::TooLarge(MAX_CHUNK + 1)));
        let mut empty = Unbundle::default();
        empty.feed(&head(&Packed { length: 0, ..packed(b"x") }));
        assert_eq!(empty.take(), Err(InvalidBundle::Empty));
        let mut short = Unbundle::default();
        short.feed(&head(&packed(b"abc")));
        short.feed(b"ab");
        assert_eq!(short.take(), Ok(None));
        assert_eq!(short.end(), Err(InvalidBundle::Truncated));
    }

    proptest! {
        #[test]
        fn bundles_come_apart_as_they_were_put_together(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            step in 1..60_usize,
        ) {
            let sent: Vec<_> = frames.iter().map(|frame| packed(frame)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|one| [head(one), one.frame.clone()].concat()).collect();
            let mut unbundle = Unbundle::default();
            let mut came = Vec::new();
            for piece in bytes.chunks(step) {
                unbundle.feed(piece);
                while let Some(one) = unbundle.take().unwrap() {
                    came.push(one);
                }
            }
            prop_assert_eq!(unbundle.end(), Ok(()));
            prop_assert_eq!(came, sent);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzzing::bundle(&bytes);
        }
    }
}
