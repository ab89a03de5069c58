//! Taking in a whole file: it is cut into chunks while it comes.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use posada_chunks::{Cutter, Piece, zeros};
use sha2::{Digest as _, Sha256 as Hasher};

use super::files::Content;
use super::{FileManifest, Repository};
use crate::digest::{ChunkDigest, Sha256};
use crate::refusal::Refusal;

/// How many chunks are packed and written at once.
const AT_ONCE: usize = 4;

impl Repository {
    /// Takes a file in. What it is must be `expected`, where that is said.
    pub(crate) async fn ingest<E>(
        &self,
        file: impl Stream<Item = Result<Bytes, E>>,
        expected: Option<Sha256>,
    ) -> Result<FileManifest, Refusal>
    where
        Refusal: From<E>,
    {
        let mut file = std::pin::pin!(file);
        let (mut cutter, mut hasher) = (Cutter::default(), Hasher::new());
        let (mut chunks, mut size, mut ended) = (Vec::new(), 0_u64, false);
        let mut writing = FuturesUnordered::new();
        while !ended {
            let mut cut = Vec::new();
            let mut sink = |piece: Piece<'_>| {
                cut.push(match piece {
                    Piece::Chunk(bytes) => Cut::Data(bytes.to_vec()),
                    Piece::Hole(length) => Cut::Zeros(length),
                });
                Ok::<(), Infallible>(())
            };
            let Ok(()) = match file.next().await.transpose()? {
                Some(bytes) => {
                    hasher.update(&bytes);
                    size += bytes.len() as u64;
                    cutter.push(&bytes, &mut sink)
                }
                None => {
                    ended = true;
                    std::mem::take(&mut cutter).finish(&mut sink)
                }
            };
            for plain in cut.into_iter().flat_map(Cut::chunks) {
                let digest = ChunkDigest::of(&plain);
                // A chunk has at most posada_chunks::MAX_CHUNK bytes.
                let chunk = (digest, plain.len() as u32);
                // Of a long hole, one chunk is like the other.
                let is_new = chunks.last() != Some(&chunk);
                chunks.push(chunk);
                if is_new {
                    writing.push(self.keep_chunk(digest, plain));
                }
                if writing.len() >= AT_ONCE {
                    writing.try_next().await?;
                }
            }
        }
        while writing.try_next().await?.is_some() {}
        let sha256 = Sha256(hasher.finalize().into());
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(Refusal::unprocessable(format!(
                "the file that came has the SHA-256 {sha256}, not {expected} as was said"
            ))
            .hint("it was changed on its way: send it again"));
        }
        let manifest = FileManifest { size, sha256, chunks };
        self.put_manifest(manifest.clone(), Content::Seen).await?;
        Ok(manifest)
    }
}

/// A piece that was cut.
enum Cut {
    Data(Vec<u8>),
    Zeros(u64),
}

impl Cut {
    /// Its chunks, made one after the other. A repository knows no holes: they are chunks of zeros, as those who push by chunks
    /// have them.
    fn chunks(self) -> impl Iterator<Item = Vec<u8>> {
        let (data, hole) = match self {
            Self::Data(bytes) => (Some(bytes), 0),
            Self::Zeros(length) => (None, length),
        };
        data.into_iter().chain(zeros(hole).map(<[u8]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Location, Storage};

    fn noise(seed: u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    async fn repository() -> Repository {
        Repository::new(Storage::open(&Location::Memory).await.unwrap())
    }

    async fn ingest(repository: &Repository, bytes: &[u8], step: usize) -> FileManifest {
        let pieces: Vec<Result<Bytes, Refusal>> =
            bytes.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        repository.ingest(futures_util::stream::iter(pieces), None).await.unwrap()
    }

    #[tokio::test]
    async fn how_it_came_in_pieces_makes_no_difference() {
        let repository = repository().await;
        let bytes = noise(1, 6 << 20);
        let (a, b) = (ingest(&repository, &bytes, 8192).await, ingest(&repository, &bytes, 5 << 20).await);
        assert_eq!(a, b);
        assert!(a.chunks.len() > 6, "{}", a.chunks.len());
    }

    #[tokio::test]
    async fn a_hole_is_equal_chunks_and_reads_as_it_was() {
        let repository = repository().await;
        let mut bytes = noise(4, 300_000);
        bytes.resize(5 << 20, 0);
        bytes.extend_from_slice(b"the end");
        let manifest = ingest(&repository, &bytes, 70_000).await;
        let distinct: std::collections::BTreeSet<_> = manifest.chunks.iter().collect();
        assert!(manifest.chunks.len() > distinct.len() + 10, "{} {}", manifest.chunks.len(), distinct.len());
        let reader = repository.open_file(&manifest.sha256).await.unwrap().unwrap();
        let parts: Vec<Bytes> = reader.read(0, bytes.len() as u64).try_collect().await.unwrap();
        assert!(parts.concat() == bytes);
    }

    #[tokio::test]
    async fn what_is_inserted_changes_the_chunks_around_it_only() {
        let repository = repository().await;
        let mut bytes = noise(2, 8 << 20);
        let before = ingest(&repository, &bytes, 65_536).await;
        bytes.splice(3_000_000..3_000_000, *b"something new");
        let after = ingest(&repository, &bytes, 65_536).await;
        let new = after.chunks.iter().filter(|chunk| !before.chunks.contains(chunk)).count();
        assert!((1..=3).contains(&new), "{new}");
    }

    #[tokio::test]
    async fn every_part_reads_as_it_was() {
        let repository = repository().await;
        let bytes = noise(3, 3 << 20);
        let manifest = ingest(&repository, &bytes, 100_000).await;
        let second = u64::from(manifest.chunks[0].1);
        let all = bytes.len() as u64;
        for (first, end) in
            [(0, all), (0, 1), (all - 1, all), (second - 1, second + 1), (second, all), (7, 2_000_000)]
        {
            let reader = repository.open_file(&manifest.sha256).await.unwrap().unwrap();
            let parts: Vec<Bytes> = reader.read(first, end).try_collect().await.unwrap();
            assert!(parts.concat() == bytes[first as usize..end as usize], "{first}..{end}");
        }
    }
}
