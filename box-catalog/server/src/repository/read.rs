//! Reading a file, or a part of it, chunk by chunk.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::leases::Lease;
use super::{FileManifest, Repository};
use crate::ServerError;
use crate::digest::Sha256;

/// How many chunks are read ahead of who fetches.
const AHEAD: usize = 4;

/// A file that is being read: it stays until this is gone.
#[derive(Debug)]
pub(crate) struct FileReader {
    repository: Repository,
    manifest: Arc<FileManifest>,
    lease: Lease,
}

impl Repository {
    /// The file with that digest, where it is there.
    pub(crate) async fn open_file(&self, sha256: &Sha256) -> Result<Option<FileReader>, ServerError> {
        // First the lease: what is seen to be there then stays.
        let lease = self.0.leases.take(*sha256);
        let Some(manifest) = self.manifest(sha256).await? else { return Ok(None) };
        Ok(Some(FileReader { repository: self.clone(), manifest, lease }))
    }
}

impl FileReader {
    /// Bytes of the whole.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.size
    }

    /// The bytes from `first` on, up to but without `end`.
    pub(crate) fn read(self, first: u64, end: u64) -> impl Stream<Item = Result<Bytes, ServerError>> + Send {
        let Self { repository, manifest, lease } = self;
        let (from, mut start) = manifest.chunk_at(first).unwrap_or((manifest.chunks.len(), end));
        let mut parts = Vec::new();
        for (digest, length) in &manifest.chunks[from..] {
            if start >= end {
                break;
            }
            let stop = start + u64::from(*length);
            // Both lie within one chunk, whose length is a u32.
            let (skip, keep) = (first.saturating_sub(start) as usize, (end.min(stop) - start) as usize);
            parts.push((*digest, *length, skip..keep));
            start = stop;
        }
        futures_util::stream::iter(parts)
            .map(move |(digest, length, part)| {
                let repository = repository.clone();
                async move { Ok(repository.plain_chunk(digest, length).await?.slice(part)) }
            })
            .buffered(AHEAD)
            .map(move |bytes| {
                let _held = &lease;
                bytes
            })
    }
}
