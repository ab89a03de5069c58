//! Which chunks a file is made of.

use serde::{Deserialize, Serialize};

use crate::bundle::MAX_CHUNK;
use crate::digest::{ChunkDigest, Sha256};

/// The largest file, bytes: 16 TiB.
const MAX_SIZE: u64 = 16 << 40;

/// A file as its chunks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileManifest {
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// Each chunk and its length in bytes, in the order of the file.
    pub chunks: Vec<(ChunkDigest, u32)>,
}

/// A manifest that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or not of this kind.
    #[error("this is no manifest: {0}")]
    Syntax(String),
    /// A chunk without bytes, or with more than any has.
    #[error("chunk {at} of the manifest has {length} bytes; there are 1 to {MAX_CHUNK} in one")]
    Length {
        /// Its place, from 0.
        at: usize,
        /// What it says.
        length: u32,
    },
    /// Its parts do not come to the whole.
    #[error("the manifest's chunks come to {sum} bytes, its size is {size}")]
    Size {
        /// Of the chunks.
        sum: u64,
        /// As it says.
        size: u64,
    },
    /// Larger than any file.
    #[error("the manifest is of a file of {0} bytes, more than {MAX_SIZE}")]
    TooLarge(u64),
}

impl FileManifest {
    /// Takes a manifest that nobody has looked at.
    ///
    /// # Errors
    /// [`InvalidManifest`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| InvalidManifest::Syntax(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), InvalidManifest> {
        if self.size > MAX_SIZE {
            return Err(InvalidManifest::TooLarge(self.size));
        }
        let wrong = self.chunks.iter().position(|(_, length)| *length == 0 || *length > MAX_CHUNK);
        if let Some(at) = wrong {
            return Err(InvalidManifest::Length { at, length: self.chunks[at].1 });
        }
        // Cannot overflow: a chunk is below 2^24 and there are not 2^40 of them in memory.
        let sum = self.chunks.iter().map(|(_, length)| u64::from(*length)).sum();
        if sum == self.size { Ok(()) } else { Err(InvalidManifest::Size { sum, size: self.size }) }
    }

    /// The chunk that holds the byte at `offset`, and where that chunk begins in the file.
    #[must_use]
    pub fn chunk_at(&self, offset: u64) -> Option<(usize, u64)> {
        let mut start = 0;
        for (at, (_, length)) in self.chunks.iter().enumerate() {
            let end = start + u64::from(*length);
            if offset < end {
                return Some((at, start));
            }
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_manifest_must_add_up() {
        let digest = ChunkDigest::of(b"a").to_string();
        let sha = "0".repeat(64);
        let parse = |chunks: &str, size: u64| {
            let text = format!("{{\"size\": {size}, \"sha256\": \"{sha}\", \"chunks\": [{chunks}]}}");
            FileManifest::parse(text.as_bytes())
        };
        assert_eq!(parse("", 0).unwrap().chunks, []);
        let two = format!("[\"{digest}\", 3], [\"{digest}\", 4]");
        let manifest = parse(&two, 7).unwrap();
        let found: Vec<_> = (0..8).map(|offset| manifest.chunk_at(offset)).collect();
        assert_eq!(found[2..5], [Some((0, 0)), Some((1, 3)), Some((1, 3))]);
        assert_eq!(found[7], None);
        assert_eq!(parse(&two, 8), Err(InvalidManifest::Size { sum: 7, size: 8 }));
        assert!(matches!(
            parse(&format!("[\"{digest}\", 0]"), 0),
            Err(InvalidManifest::Length { at: 0, .. })
        ));
        assert!(matches!(
            parse(&format!("[\"{digest}\", 4294967295]"), 4_294_967_295),
            Err(InvalidManifest::Length { .. })
        ));
        assert!(matches!(parse("[\"../../etc/passwd\", 1]", 1), Err(InvalidManifest::Syntax(_))));
        assert!(matches!(parse("", u64::MAX), Err(InvalidManifest::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzzing::file_manifest(&bytes);
        }
    }
}
