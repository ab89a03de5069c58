//! Which chunks a file of a repository is made of: `box-catalog/server/API.md`, “Reading by chunks”.

use posada_chunks::Digest;
use serde::{Deserialize, Serialize};

/// The largest chunk that a repository has, bytes.
pub(crate) const MAX_CHUNK: u32 = 16 << 20;

/// A file as its chunks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileManifest {
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file.
    pub sha256: String,
    /// Each chunk and its length in bytes.
    pub chunks: Vec<(Digest, u32)>,
}

impl FileManifest {
    /// Takes what a repository says of a file with this SHA-256; `None` where it does not add up.
    pub fn parse(bytes: &[u8], sha256: &str) -> Option<Self> {
        let manifest: Self = serde_json::from_slice(bytes).ok()?;
        let usable = manifest.chunks.iter().all(|(_, length)| (1..=MAX_CHUNK).contains(length));
        let sum =
            manifest.chunks.iter().try_fold(0_u64, |sum, (_, length)| sum.checked_add((*length).into()));
        (usable && sum == Some(manifest.size) && manifest.sha256 == sha256).then_some(manifest)
    }

    /// Each chunk with where it begins.
    pub fn places(&self) -> impl Iterator<Item = (u64, Digest, u32)> {
        self.chunks.iter().scan(0, |end, (digest, length)| {
            let start = *end;
            *end += u64::from(*length);
            Some((start, *digest, *length))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_manifest_adds_up_and_is_of_the_file() {
        let (sha, digest) = ("0".repeat(64), Digest::of(b"a"));
        let parse = |size: u64, lengths: &[u32], sha: &str| {
            let chunks = lengths.iter().map(|length| (digest, *length)).collect();
            let manifest = FileManifest { size, sha256: "0".repeat(64), chunks };
            FileManifest::parse(&serde_json::to_vec(&manifest).unwrap(), sha)
        };
        let places: Vec<_> = parse(7, &[3, 4], &sha).unwrap().places().collect();
        assert_eq!(places, [(0, digest, 3), (3, digest, 4)]);
        assert_eq!(parse(8, &[3, 4], &sha), None);
        assert_eq!(parse(0, &[0], &sha), None);
        assert_eq!(parse(u64::from(u32::MAX), &[u32::MAX], &sha), None);
        assert_eq!(parse(7, &[3, 4], &"1".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn any_manifest_is_taken_or_refused(size in 0_u64..9, lengths in prop::collection::vec(0_u32..4, 0..4)) {
            let digest = "ab".repeat(32);
            let chunks: Vec<_> = lengths.iter().map(|length| (&digest, length)).collect();
            let manifest = serde_json::json!({ "size": size, "sha256": "0".repeat(64), "chunks": chunks });
            crate::fuzzing::delta_manifest(manifest.to_string().as_bytes());
        }
    }
}
