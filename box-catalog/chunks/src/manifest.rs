//! What a content is made of.
//!
//! A manifest's binary form, numbers little endian:
//! ```text
//! "PSDCHUNK"              8 bytes
//! version                 u32, 1
//! entries                 u32, how many follow
//! size                    u64, of the content, bytes
//! entries                 a hole: 0 and its length (u8, u64)
//!                         a chunk: 1, its length and its digest (u8, u32, 32 bytes)
//! BLAKE3 of all before    32 bytes
//! ```
//! There is one form only of each manifest: holes do not follow each other, nothing has no length, and the lengths come
//! to the size.

use std::collections::HashSet;

use crate::{Digest, MAX_CHUNK};

const MAGIC: &[u8; 8] = b"PSDCHUNK";
const VERSION: u32 = 1;
const HEAD: usize = 24;
const HOLE_TAG: u8 = 0;
const CHUNK_TAG: u8 = 1;

/// One piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// So many zeros.
    Hole(u64),
    /// A chunk.
    Chunk {
        /// What it is called.
        digest: Digest,
        /// How long it is, bytes.
        length: u32,
    },
}

impl Entry {
    /// How long it is, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Hole(length) => *length,
            Self::Chunk { length, .. } => u64::from(*length),
        }
    }
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Something else, or only a part.
    #[error("this is no list of chunks, or not all of one")]
    NotOne,
    /// A later format.
    #[error("the list of chunks has format {0}, this posada reads {VERSION}")]
    Version(u32),
    /// Its own digest says something else.
    #[error("the list of chunks is damaged: it does not have the digest that it ends with")]
    Damaged,
    /// What it says cannot be.
    #[error("the list of chunks cannot be right: {0}")]
    Absurd(&'static str),
}

/// Lists the pieces of a content, from start to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    size: u64,
    entries: Vec<Entry>,
}

impl Manifest {
    /// Of these pieces.
    ///
    /// # Errors
    /// [`ManifestError::Absurd`] where two holes follow each other, a length is none or too large, or there are more
    /// than can be counted.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        let mut size = 0u64;
        let mut in_hole = false;
        if u32::try_from(entries.len()).is_err() {
            return Err(ManifestError::Absurd("it has too many pieces"));
        }
        for entry in &entries {
            let hole = matches!(entry, Entry::Hole(_));
            match entry.length() {
                0 => return Err(ManifestError::Absurd("a piece has no length")),
                _ if hole && in_hole => return Err(ManifestError::Absurd("two holes follow each other")),
                length if !hole && length > MAX_CHUNK as u64 => {
                    return Err(ManifestError::Absurd("a chunk is larger than any may be"));
                }
                length => {
                    size = size
                        .checked_add(length)
                        .filter(|size| i64::try_from(*size).is_ok())
                        .ok_or(ManifestError::Absurd("it is larger than any file may be"))?;
                }
            }
            in_hole = hole;
        }
        Ok(Self { size, entries })
    }

    /// How large the content is, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pieces.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The chunks with where each begins, bytes.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, Digest, u32)> + '_ {
        let mut end = 0;
        self.entries.iter().filter_map(move |entry| {
            let offset = end;
            end += entry.length();
            match entry {
                Entry::Hole(_) => None,
                Entry::Chunk { digest, length } => Some((offset, *digest, *length)),
            }
        })
    }

    /// The chunks, each once, in the order in which they are first needed.
    #[must_use]
    pub fn distinct(&self) -> Vec<(Digest, u32)> {
        let mut seen = HashSet::new();
        self.chunks().filter(|(_, digest, _)| seen.insert(*digest)).map(|(_, d, l)| (d, l)).collect()
    }

    /// The digest of the whole content: of the list of its chunks, which is one and the same for equal contents that
    /// were cut by a [`crate::Cutter`], and needs no content to be read.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.unsealed())
    }

    /// The binary form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.unsealed();
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    fn unsealed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.entries.len() * 37 + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // It was counted when it was made.
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        for entry in &self.entries {
            match entry {
                Entry::Hole(length) => {
                    bytes.push(HOLE_TAG);
                    bytes.extend_from_slice(&length.to_le_bytes());
                }
                Entry::Chunk { digest, length } => {
                    bytes.push(CHUNK_TAG);
                    bytes.extend_from_slice(&length.to_le_bytes());
                    bytes.extend_from_slice(digest.as_bytes());
                }
            }
        }
        bytes
    }

    /// Reads the binary form. Takes memory of the order of `bytes`, whatever they say.
    ///
    /// # Errors
    /// Each [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (body, seal) = bytes.split_last_chunk::<32>().ok_or(ManifestError::NotOne)?;
        let mut rest = body;
        if take::<8>(&mut rest)? != *MAGIC {
            return Err(ManifestError::NotOne);
        }
        let version = u32::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        if Digest::of(body).as_bytes() != seal {
            return Err(ManifestError::Damaged);
        }
        let count = u32::from_le_bytes(take(&mut rest)?);
        let size = u64::from_le_bytes(take(&mut rest)?);
        let mut entries = Vec::new();
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            entries.push(match *tag {
                HOLE_TAG => Entry::Hole(u64::from_le_bytes(take(&mut rest)?)),
                CHUNK_TAG => {
                    let length = u32::from_le_bytes(take(&mut rest)?);
                    Entry::Chunk { length, digest: Digest::from_bytes(take(&mut rest)?) }
                }
                _ => return Err(ManifestError::Absurd("it has a piece of an unknown kind")),
            });
        }
        if entries.len() != count as usize {
            return Err(ManifestError::Absurd("it does not have as many pieces as it says"));
        }
        let manifest = Self::new(entries)?;
        if manifest.size == size {
            Ok(manifest)
        } else {
            Err(ManifestError::Absurd("its pieces do not come to its size"))
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ManifestError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(ManifestError::NotOne)?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(of: &str, length: u32) -> Entry {
        Entry::Chunk { digest: Digest::of(of.as_bytes()), length }
    }

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let digest = Digest::of(&body);
        body.extend_from_slice(digest.as_bytes());
        body
    }

    #[test]
    fn chunks_are_told_with_their_places_and_each_once() {
        let manifest =
            Manifest::new(vec![chunk("a", 10), Entry::Hole(1 << 40), chunk("b", 5), chunk("a", 10)]).unwrap();
        let places: Vec<u64> = manifest.chunks().map(|(offset, ..)| offset).collect();
        assert_eq!(places, [0, (1 << 40) + 10, (1 << 40) + 15]);
        assert_eq!(manifest.size(), (1 << 40) + 25);
        assert_eq!(manifest.distinct().len(), 2);
    }

    /// Contents are known by these digests in repositories everywhere: the format stays.
    #[test]
    fn the_format_does_not_change() {
        let manifest = Manifest::new(vec![chunk("a", 10), Entry::Hole(7)]).unwrap();
        let mut body = b"PSDCHUNK\x01\0\0\0\x02\0\0\0\x11\0\0\0\0\0\0\0\x01\x0a\0\0\0".to_vec();
        body.extend_from_slice(Digest::of(b"a").as_bytes());
        body.extend_from_slice(b"\0\x07\0\0\0\0\0\0\0");
        assert_eq!(manifest.to_bytes(), sealed(body));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let absurd = |entries: Vec<Entry>| matches!(Manifest::new(entries), Err(ManifestError::Absurd(_)));
        assert!(absurd(vec![Entry::Hole(0)]));
        assert!(absurd(vec![chunk("a", 0)]));
        assert!(absurd(vec![chunk("a", MAX_CHUNK as u32 + 1)]));
        assert!(absurd(vec![Entry::Hole(1), Entry::Hole(1)]));
        assert!(absurd(vec![Entry::Hole(1 << 63)]));
        assert!(absurd(vec![Entry::Hole(u64::MAX), chunk("a", 1)]));
        let body = Manifest::new(vec![chunk("a", 10)]).unwrap().unsealed();
        for (at, with) in [(12, 2), (16, 9), (24, 7)] {
            let mut bad = body.clone();
            bad[at] = with;
            assert!(matches!(Manifest::parse(&sealed(bad)), Err(ManifestError::Absurd(_))), "{at}");
        }
        let mut later = body;
        later[8] = 2;
        assert_eq!(Manifest::parse(&sealed(later)), Err(ManifestError::Version(2)));
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = prop_oneof![
            (1u64..1 << 50).prop_map(Entry::Hole),
            (any::<[u8; 32]>(), 1..=MAX_CHUNK as u32)
                .prop_map(|(digest, length)| Entry::Chunk { digest: Digest::from_bytes(digest), length }),
        ];
        proptest::collection::vec(entry, 0..40).prop_map(|mut entries| {
            entries.dedup_by(|a, b| matches!((a, b), (Entry::Hole(_), Entry::Hole(_))));
            entries
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_damage_is(
            entries in entries(),
            at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            let manifest = Manifest::new(entries).unwrap();
            let bytes = manifest.to_bytes();
            prop_assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
            prop_assert!(Manifest::parse(&bytes[..at.index(bytes.len())]).is_err());
            let mut damaged = bytes;
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
            prop_assert!(Manifest::parse(&damaged).is_err());
        }

        #[test]
        fn anything_can_be_parsed(body in proptest::collection::vec(any::<u8>(), 0..200), entries in entries()) {
            crate::fuzzing::chunk_manifest(&body);
            let mut mixed = Manifest::new(entries).unwrap().unsealed();
            mixed.extend_from_slice(&body);
            crate::fuzzing::chunk_manifest(&sealed(mixed));
        }
    }
}
