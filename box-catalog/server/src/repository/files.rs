//! Files: from chunks that are there to a file that can be fetched.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256 as Hasher};

use super::{FileManifest, Repository};
use crate::ServerError;
use crate::digest::{ChunkDigest, Sha256};
use crate::refusal::Refusal;

/// How many chunks are read ahead.
const AHEAD: usize = 4;

/// What is known of a manifest's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its SHA-256 was computed while they came.
    Seen,
    /// Whoever sent it says so.
    Claimed,
}

impl Repository {
    /// Keeps a manifest whose chunks are all there and come to what it says; from here on they stay.
    pub(crate) async fn put_manifest(&self, manifest: FileManifest, content: Content) -> Result<(), Refusal> {
        let _hold = self.storage().hold().await?;
        let digests: Vec<ChunkDigest> = manifest.chunks.iter().map(|(digest, _)| *digest).collect();
        let missing = self.missing_chunks(&digests).await?;
        if !missing.is_empty() {
            return Err(Refusal::missing(missing));
        }
        if content == Content::Claimed {
            self.verify(&manifest).await?;
        }
        let path = path(&manifest.sha256);
        let bytes = serde_json::to_vec(&manifest).map_err(|error| ServerError::damaged(&path, error))?;
        // Also where it is there already: it is young again, and gc lets it stay until a box names it.
        self.storage().write(&path, bytes.into()).await?;
        self.storage().sync().await?;
        self.remember(manifest.sha256, Arc::new(manifest));
        Ok(())
    }

    async fn verify(&self, manifest: &FileManifest) -> Result<(), Refusal> {
        let mut chunks = futures_util::stream::iter(manifest.chunks.clone())
            .map(|(digest, length)| async move {
                self.plain_chunk(digest, length).await.map_err(|error| (digest, error))
            })
            .buffered(AHEAD);
        let mut hasher = Hasher::new();
        loop {
            match chunks.try_next().await {
                Ok(Some(plain)) => hasher.update(&plain),
                Ok(None) => break,
                Err((digest, ServerError::Damaged { .. })) => {
                    // Of another length than the manifest says, or spoilt: in both cases it is not what is needed.
                    drop(chunks);
                    self.discard_if_damaged(digest).await?;
                    return Err(Refusal::missing(vec![digest]));
                }
                Err((_, error)) => return Err(error.into()),
            }
        }
        if hasher.finalize()[..] == manifest.sha256.0 {
            Ok(())
        } else {
            Err(Refusal::unprocessable("the chunks come to another SHA-256 than the manifest says"))
        }
    }

    /// Takes a chunk away where what lies there is not what its name says.
    async fn discard_if_damaged(&self, digest: ChunkDigest) -> Result<(), ServerError> {
        let Some(frame) = self.chunk(&digest).await? else { return Ok(()) };
        let plain = super::chunks::unpack(&frame, crate::bundle::MAX_CHUNK);
        if plain.is_ok_and(|plain| ChunkDigest::of(&plain) == digest) {
            return Ok(());
        }
        self.discard_chunk(&digest).await
    }

    /// The manifest of a file, where it is there.
    pub(crate) async fn manifest(&self, sha256: &Sha256) -> Result<Option<Arc<FileManifest>>, ServerError> {
        if let Some(found) = self.recent(sha256) {
            return Ok(Some(found));
        }
        let found = self.manifest_uncached(sha256).await?.map(Arc::new);
        if let Some(manifest) = &found {
            self.remember(*sha256, manifest.clone());
        }
        Ok(found)
    }

    /// The same, read anew.
    pub(super) async fn manifest_uncached(
        &self,
        sha256: &Sha256,
    ) -> Result<Option<FileManifest>, ServerError> {
        let path = path(sha256);
        let Some(bytes) = self.storage().read(&path).await? else { return Ok(None) };
        let manifest = FileManifest::parse(&bytes).map_err(|error| ServerError::damaged(&path, error))?;
        if manifest.sha256 == *sha256 {
            Ok(Some(manifest))
        } else {
            Err(ServerError::damaged(&path, "it is of another file"))
        }
    }
}

/// Where a manifest lies.
pub(super) fn path(sha256: &Sha256) -> String {
    let hex = sha256.to_string();
    format!("manifests/{}/{hex}", &hex[..2])
}

/// The file whose manifest lies at `path`.
pub(super) fn at(path: &str) -> Option<Sha256> {
    Sha256::parse(path.rsplit('/').next()?)
}
