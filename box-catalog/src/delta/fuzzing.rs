//! What repositories say of files by their chunks.

use super::bundle;
use super::manifest::{FileManifest, MAX_CHUNK};

/// A bundle of chunks: each is what it is called, and no larger than any.
pub fn delta_bundle(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((digest, chunk)) = bundle::next(&mut rest) {
        assert!(chunk.len() <= MAX_CHUNK as usize && digest == posada_chunks::Digest::of(&chunk));
    }
}

/// A manifest: its chunks lie one behind the other and come to the whole file.
pub fn delta_manifest(bytes: &[u8]) {
    let Some(manifest) = FileManifest::parse(bytes, &"0".repeat(64)) else { return };
    let mut end = 0;
    for (offset, _, length) in manifest.places() {
        assert!(offset == end && (1..=MAX_CHUNK).contains(&length));
        end += u64::from(length);
    }
    assert_eq!(end, manifest.size);
}
