//! Taking in a whole file: it is cut into chunks while it comes.

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::FastCDC;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256 as Hasher};

use super::files::Content;
use super::{FileManifest, Repository};
use crate::digest::{ChunkDigest, Sha256};
use crate::refusal::Refusal;

/// Bytes of the smallest, the usual and the largest chunk.
const SIZES: (usize, usize, usize) = (64 << 10, 256 << 10, 1 << 20);
/// How much of the file is looked at together.
const WINDOW: usize = 4 << 20;
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
        let (mut buffer, mut hasher) = (BytesMut::new(), Hasher::new());
        let (mut chunks, mut size, mut ended) = (Vec::new(), 0_u64, false);
        let mut writing = FuturesUnordered::new();
        while !ended || !buffer.is_empty() {
            while !ended && buffer.len() < WINDOW {
                match file.next().await.transpose()? {
                    Some(bytes) => {
                        hasher.update(&bytes);
                        size += bytes.len() as u64;
                        buffer.extend_from_slice(&bytes);
                    }
                    None => ended = true,
                }
            }
            for length in cut(&buffer, ended) {
                let plain = buffer.split_to(length);
                let digest = ChunkDigest::of(&plain);
                // A chunk has at most SIZES.2 bytes.
                chunks.push((digest, length as u32));
                writing.push(self.keep_chunk(digest, plain.to_vec()));
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

/// How long the chunks are that `buffer` begins with; unless it is the file's end, those whose end does not depend on
/// what is still to come.
fn cut(buffer: &[u8], is_end: bool) -> Vec<usize> {
    let (least, usual, most) = SIZES;
    if buffer.is_empty() {
        return Vec::new();
    }
    let mut left = buffer.len();
    FastCDC::new(buffer, least, usual, most)
        .map(|chunk| chunk.length)
        .take_while(|length| {
            let settled = is_end || left >= most;
            left -= length;
            settled
        })
        .collect()
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
