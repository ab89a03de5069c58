//! Compressed clusters. Those decompressed last are kept, as a cluster is mostly read in several pieces.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::corrupt;
use super::header::Compression;

/// How many clusters are kept.
const KEPT: usize = 8;

pub(super) struct Inflater {
    kind: Compression,
    kept: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl Inflater {
    pub fn new(kind: Compression) -> Self {
        Self { kind, kept: Mutex::default() }
    }

    /// The cluster whose compressed bytes lie at `offset`, if it is kept.
    pub fn kept(&self, offset: u64) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|(at, _)| *at == offset)?;
        let found = kept.remove(index)?;
        let bytes = found.1.clone();
        kept.push_back(found);
        Some(bytes)
    }

    /// Decompresses the cluster of `size` bytes whose compressed `bytes` lie at `offset`.
    ///
    /// # Errors
    /// `InvalidData` where they are not that.
    pub fn inflate(&self, offset: u64, bytes: &[u8], size: usize) -> io::Result<Arc<Vec<u8>>> {
        let mut cluster = vec![0; size];
        match self.kind {
            Compression::Deflate => {
                flate2::read::DeflateDecoder::new(bytes)
                    .read_exact(&mut cluster)
                    .map_err(|_| corrupt("a compressed cluster cannot be decompressed"))?;
            }
            Compression::Zstd => {
                zstd::stream::read::Decoder::with_buffer(bytes)
                    .and_then(|mut decoder| decoder.read_exact(&mut cluster))
                    .map_err(|_| corrupt("a compressed cluster cannot be decompressed"))?;
            }
        }
        let cluster = Arc::new(cluster);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((offset, cluster.clone()));
        Ok(cluster)
    }

    /// Forgets what lay in the host cluster from `start` on, which is about to be used again.
    pub fn forget(&self, start: u64, len: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Compressed bytes may begin in the cluster before.
        kept.retain(|(at, _)| *at + len < start || *at >= start + len);
    }
}
