//! Entries for the fuzz targets in `fuzz/`, which the property tests call too: each takes bytes that nobody has looked at.

use crate::bundle::{MAX_CHUNK, Unbundle};
pub use crate::http::fuzzing::requests;
use crate::names::{BoxName, VersionName};
use crate::repository::FileManifest;

/// A bundle of chunks, in two pieces.
pub fn bundle(bytes: &[u8]) {
    let mut unbundle = Unbundle::default();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    for piece in [first, rest] {
        unbundle.feed(piece);
        while let Ok(Some(packed)) = unbundle.take() {
            if let Ok(plain) = crate::repository::unpack(&packed.frame, packed.length) {
                assert!(plain.len() <= packed.length.min(MAX_CHUNK) as usize);
            }
        }
    }
    let _ = unbundle.end();
}

/// A manifest.
pub fn file_manifest(bytes: &[u8]) {
    if let Ok(manifest) = FileManifest::parse(bytes) {
        let _ = manifest.chunk_at(manifest.size / 2);
        assert_eq!(manifest.chunk_at(manifest.size), None);
    }
}

/// The document of another catalog.
pub fn upstream(bytes: &[u8]) {
    let (Ok(name), Ok(url)) = (BoxName::parse("team/web"), url::Url::parse("https://h/team/web")) else {
        return;
    };
    if let Ok(document) = crate::mirror::parse(bytes, &name, &url, &url, chrono::DateTime::UNIX_EPOCH) {
        for version in &document.versions {
            for file in &version.files {
                assert!(
                    document.file(&version.version, &file.provider, &file.architecture_in_path()).is_some()
                );
            }
        }
    }
}

/// A `Range` header, a box's name, a version.
pub fn header(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let size = bytes.len() as u64;
    if let crate::range::Wanted::Part { first, end } = crate::range::parse(&text, size) {
        assert!(first < end && end <= size);
    }
    if let Ok(name) = BoxName::parse(&text) {
        assert_eq!(BoxName::parse(&name.to_string()), Ok(name));
    }
    if let Ok(version) = VersionName::parse(&text) {
        assert!(version.compare(&version).is_eq());
    }
}
