//! A file as its chunks.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use posada_chunks::{Cutter, Digest, Piece, zeros};
use sha2::{Digest as _, Sha256};

use crate::delta::FileManifest;
use crate::{BoxError, Cancel, Progress};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;
/// How hard zstd tries.
const LEVEL: i32 = 3;

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub digest: Digest,
    pub length: u32,
}

/// A file that was cut.
#[derive(Debug)]
pub(super) struct CutFile {
    path: PathBuf,
    file: File,
    pub size: u64,
    sha256: crate::Digest,
    pub chunks: Vec<Place>,
}

/// Reads the file at `path` and cuts it.
pub(super) fn cut(path: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<CutFile, BoxError> {
    let failed = |error| BoxError::io("read", path, error);
    let mut file = super::whole::open(path, progress)?;
    let (mut hasher, mut cutter, mut buffer) = (Sha256::new(), Cutter::default(), vec![0; PIECE]);
    let (mut chunks, mut size) = (Vec::new(), 0);
    let mut sink = |piece: Piece<'_>| {
        match piece {
            Piece::Chunk(bytes) => add(&mut chunks, Digest::of(bytes), bytes.len()),
            // A repository knows no holes; all of them are the same chunks.
            Piece::Hole(length) => {
                zeros(length).for_each(|bytes| add(&mut chunks, Digest::of(bytes), bytes.len()));
            }
        }
        Ok::<(), BoxError>(())
    };
    loop {
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        cutter.push(&buffer[..length], &mut sink)?;
        size += length as u64;
        progress.advance(length as u64);
    }
    cutter.finish(&mut sink)?;
    let sha256 = crate::Digest::from_bytes(hasher.finalize().into());
    Ok(CutFile { path: path.to_owned(), file, size, sha256, chunks })
}

fn add(chunks: &mut Vec<Place>, digest: Digest, length: usize) {
    let offset = chunks.last().map_or(0, |last: &Place| last.offset + u64::from(last.length));
    // At most posada_chunks::MAX_CHUNK.
    chunks.push(Place { offset, digest, length: length as u32 });
}

impl CutFile {
    /// Each of its chunks once.
    pub fn distinct(&self) -> Vec<Digest> {
        let mut seen = HashSet::new();
        self.chunks.iter().map(|place| place.digest).filter(|digest| seen.insert(*digest)).collect()
    }

    /// Where `digests` are, in their order.
    pub fn places(&self, digests: &[Digest]) -> Vec<Place> {
        let at: HashMap<Digest, Place> = self.chunks.iter().map(|place| (place.digest, *place)).collect();
        digests.iter().filter_map(|digest| at.get(digest).copied()).collect()
    }

    /// What the repository keeps of it.
    pub fn manifest(&self) -> FileManifest {
        FileManifest {
            size: self.size,
            sha256: self.sha256.to_string(),
            chunks: self.chunks.iter().map(|place| (place.digest, place.length)).collect(),
        }
    }

    /// The chunks at `places` as one message: `box-catalog/server/API.md`, “Reading by chunks”.
    pub fn bundle(&self, places: &[Place]) -> Result<Vec<u8>, BoxError> {
        let failed = |error| BoxError::io("read", &self.path, error);
        let (mut bundle, mut buffer) = (Vec::new(), Vec::new());
        for place in places {
            buffer.resize(place.length as usize, 0);
            self.file.read_exact_at(&mut buffer, place.offset).map_err(failed)?;
            if Digest::of(&buffer) != place.digest {
                let what = "it was changed while it was pushed".to_owned();
                return Err(BoxError::io("push", &self.path, std::io::Error::other(what)));
            }
            let frame = zstd::bulk::compress(&buffer, LEVEL).map_err(failed)?;
            bundle.extend_from_slice(place.digest.as_bytes());
            bundle.extend_from_slice(&place.length.to_le_bytes());
            // A little more than a chunk at most.
            bundle.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bundle.extend_from_slice(&frame);
        }
        Ok(bundle)
    }
}
