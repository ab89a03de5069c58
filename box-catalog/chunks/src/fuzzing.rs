//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

use crate::Manifest;

/// A manifest, in its binary form: what is accepted is written the same way again.
///
/// # Panics
/// Where the format has two forms of one manifest.
pub fn chunk_manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(manifest.to_bytes(), bytes);
    }
}

/// Bytes that look random and are the same each time.
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
