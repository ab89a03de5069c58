//! A box as an artifact in an OCI registry: one file, and what is known of it in annotations.
//! Format: OCI image specification 1.1, “Guidelines for Artifact Usage”.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use posada_fetch::{Algorithm, Checksum, Client, Stop};
use serde::Serialize;

use super::{Published, Pushed, whole};
use crate::oci::{Access, BOX, Descriptor, ImageRef, LoginPlaces, MANIFEST, Registry, annotation};
use crate::{BoxError, Cancel, Progress};

/// Bytes that travel together.
const PIECE: usize = 16 << 20;
/// What stands for a configuration where there is none.
const EMPTY: &[u8] = b"{}";
const EMPTY_KIND: &str = "application/vnd.oci.empty.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: BTreeMap<String, String>,
}

/// Brings the file at `path` to a registry, as what `to` says.
pub(super) fn push(
    client: &Client,
    logins: &LoginPlaces,
    image: &ImageRef,
    path: &Path,
    to: &Published,
    (progress, cancel, stop): (&dyn Progress, &Cancel, &Stop),
) -> Result<Pushed, BoxError> {
    let tag = image.tag().ok_or_else(|| BoxError::Name(image.to_string()))?;
    let failed = |error| BoxError::io("read", path, error);
    let whole::Whole { size, digest } = whole::read(path, progress, cancel)?;
    let digest = Checksum::new(Algorithm::Sha256, &digest.to_string())
        .map_err(|error| BoxError::Name(error.to_string()))?;
    let registry = Registry::open(image, Access::Push, logins, client, progress, stop)?;
    let mut pushed = Pushed { size, chunks: 1, ..Pushed::default() };
    if !registry.has(&digest)? {
        progress.phase("pushing", Some(size));
        upload(&registry, File::open(path).map_err(failed)?, &digest, progress).map_err(
            |error| match error {
                Broken::Read(error) => failed(error),
                Broken::Refused(error) => error,
            },
        )?;
        pushed.new_chunks = 1;
        pushed.sent = size;
    }
    let empty = Checksum::of(Algorithm::Sha256, EMPTY);
    if !registry.has(&empty)? {
        let url = registry.begin()?;
        registry.end(&registry.piece(&url, 0, EMPTY.to_vec())?, &empty)?;
    }
    let part = |kind: &str, digest: Checksum, size: u64| Descriptor {
        media_type: kind.to_owned(),
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    };
    let known = [
        (annotation::VERSION, to.version.to_string()),
        (annotation::PROVIDER, to.provider.clone()),
        (annotation::ARCHITECTURE, to.architecture.clone()),
    ];
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: BOX,
        config: part(EMPTY_KIND, empty, EMPTY.len() as u64),
        layers: [part("application/octet-stream", digest, size)],
        annotations: known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| failed(error.into()))?;
    registry.put_manifest(tag, MANIFEST, manifest)?;
    Ok(pushed)
}

/// What a file's way to a registry broke by.
enum Broken {
    Read(io::Error),
    Refused(BoxError),
}

fn upload(
    registry: &Registry<'_>,
    mut file: File,
    digest: &Checksum,
    progress: &dyn Progress,
) -> Result<(), Broken> {
    let mut url = registry.begin().map_err(Broken::Refused)?;
    let mut from = 0;
    loop {
        let mut piece = Vec::new();
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(Broken::Read)?;
        if piece.is_empty() {
            return registry.end(&url, digest).map_err(Broken::Refused);
        }
        let length = piece.len() as u64;
        url = registry.piece(&url, from, piece).map_err(Broken::Refused)?;
        from += length;
        progress.advance(length);
    }
}
