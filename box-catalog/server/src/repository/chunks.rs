//! Chunks: kept as one zstd frame each, by the BLAKE3 of what is in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::Repository;
use crate::ServerError;
use crate::bundle::{MAX_CHUNK, Packed};
use crate::digest::ChunkDigest;
use crate::refusal::Refusal;

/// How many objects are asked for at once.
const AT_ONCE: usize = 16;
/// How hard zstd tries for what the server packs itself.
const LEVEL: i32 = 3;

impl Repository {
    /// A chunk as it is kept, where it is there.
    pub(crate) async fn chunk(&self, digest: &ChunkDigest) -> Result<Option<Bytes>, ServerError> {
        // An empty object is what a power cut left of one.
        Ok(self.storage().read(&path(digest)).await?.filter(|frame| !frame.is_empty()))
    }

    /// Which of `digests` are not there, each once, in their order.
    pub(crate) async fn missing_chunks(
        &self,
        digests: &[ChunkDigest],
    ) -> Result<Vec<ChunkDigest>, ServerError> {
        let mut seen = BTreeSet::new();
        let once: Vec<ChunkDigest> = digests.iter().copied().filter(|digest| seen.insert(*digest)).collect();
        let missing = futures_util::stream::iter(once)
            .map(|digest| async move {
                let there = self.storage().look(&path(&digest)).await?;
                Ok::<_, ServerError>(there.is_none_or(|object| object.size == 0).then_some(digest))
            })
            .buffered(AT_ONCE)
            .try_filter_map(|missing| async move { Ok(missing) });
        missing.try_collect().await
    }

    /// Keeps a chunk that somebody sent, after a look at what is in it; whether it is new.
    pub(crate) async fn put_chunk(&self, packed: Packed) -> Result<bool, Refusal> {
        let digest = packed.digest;
        let there = self.storage().look(&path(&digest)).await?;
        if there.is_some_and(|object| object.size > 0) {
            return Ok(false);
        }
        // What it comes to is read from there later on, without unpacking.
        if content_size(&packed.frame) != Some(packed.length.into()) {
            return Err(Refusal::unprocessable(format!(
                "the frame of the chunk {digest} does not say its length"
            ))
            .hint("write the content's size into the zstd frame"));
        }
        let frame = packed.frame.clone();
        let plain = unpack_elsewhere(frame, packed.length)
            .await
            .ok()
            .filter(|plain| plain.len() == packed.length as usize && ChunkDigest::of(plain) == digest);
        if plain.is_none() {
            return Err(Refusal::unprocessable(format!(
                "the chunk {digest} holds something else than it says"
            ))
            .hint("it was changed on its way, or packed wrongly: send it again"));
        }
        self.storage().write(&path(&digest), packed.frame).await?;
        Ok(true)
    }

    /// How many bytes are in a chunk that is kept as `frame`.
    pub(crate) fn length_of(&self, digest: &ChunkDigest, frame: &[u8]) -> Result<u32, ServerError> {
        let length = content_size(frame).and_then(|size| u32::try_from(size).ok());
        length.ok_or_else(|| ServerError::damaged(path(digest), "it does not say its length"))
    }

    /// Keeps a chunk of the server's own cutting.
    pub(super) async fn keep_chunk(&self, digest: ChunkDigest, plain: Vec<u8>) -> Result<(), ServerError> {
        let there = self.storage().look(&path(&digest)).await?;
        if there.is_some_and(|object| object.size > 0) {
            return Ok(());
        }
        let packed = elsewhere(move || zstd::bulk::compress(&plain, LEVEL)).await;
        let frame = packed.map_err(|error| ServerError::damaged(path(&digest), error))?;
        self.storage().write(&path(&digest), frame.into()).await
    }

    /// What is in a chunk that must be there.
    pub(super) async fn plain_chunk(&self, digest: ChunkDigest, length: u32) -> Result<Bytes, ServerError> {
        let damaged = |why: &str| ServerError::damaged(path(&digest), why);
        let frame = self.chunk(&digest).await?.ok_or_else(|| damaged("it is not there"))?;
        let plain = unpack_elsewhere(frame, length).await.map_err(|error| damaged(&error.to_string()))?;
        if plain.len() == length as usize && ChunkDigest::of(&plain) == digest {
            Ok(plain)
        } else {
            Err(damaged("its content is not what its name says"))
        }
    }

    /// Takes a chunk out that is not what its name says.
    pub(super) async fn discard_chunk(&self, digest: &ChunkDigest) -> Result<(), ServerError> {
        self.storage().remove(&path(digest)).await
    }
}

/// Where a chunk lies.
pub(super) fn path(digest: &ChunkDigest) -> String {
    let hex = digest.to_string();
    format!("chunks/{}/{hex}", &hex[..2])
}

/// The chunk that lies at `path`.
pub(super) fn at(path: &str) -> Option<ChunkDigest> {
    ChunkDigest::parse(path.rsplit('/').next()?)
}

/// How many bytes a frame says that it holds.
fn content_size(frame: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(frame).ok().flatten()
}

/// Unpacks a frame that holds `length` bytes, never more.
pub(crate) fn unpack(frame: &[u8], length: u32) -> std::io::Result<Vec<u8>> {
    if length > MAX_CHUNK {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    zstd::bulk::decompress(frame, length as usize)
}

async fn unpack_elsewhere(frame: Bytes, length: u32) -> std::io::Result<Bytes> {
    elsewhere(move || unpack(&frame, length).map(Bytes::from)).await
}

/// Works on a thread where nobody waits for events.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
