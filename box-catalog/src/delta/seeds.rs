//! What boxes here have of a file's chunks.

use std::fs::File;
use std::path::Path;

use posada_chunks::{ChunkStore, Cutter, Digest, Found, MAX_CHUNK, Piece, feed_file, zeros};

use super::target::Target;
use crate::source::Errand;
use crate::{BoxError, Cancel, Store, StoredBox};

/// Versions of a box that are looked at, the newest first: each is read as a whole.
const VERSIONS: usize = 2;

/// Something here that may have chunks.
pub(super) enum Seed {
    /// A box whose disk image stays in place.
    Image(Box<StoredBox>),
    /// The chunks of all images that were divided.
    Chunks(ChunkStore),
}

impl Store {
    /// What may have chunks of a file of the box `name`.
    pub(super) fn seeds(&self, name: &str) -> Result<Vec<Seed>, BoxError> {
        let mut versions: Vec<StoredBox> = self
            .list()?
            .into_iter()
            .filter(|stored| stored.name == name && stored.disk().is_some())
            .collect();
        versions.sort_by(|one, other| other.version.cmp(&one.version));
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        let mut seeds = vec![Seed::Chunks(self.chunks()?)];
        for stored in versions {
            if let Some(stored) = self.leased(stored)?
                && let Some(disk) = stored.disk()
                && disk.path.exists()
            {
                seeds.push(Seed::Image(Box::new(stored)));
            }
        }
        seeds.truncate(1 + VERSIONS);
        Ok(seeds)
    }
}

impl Seed {
    /// Gives what of it `target` lacks, which is the file at `path`.
    pub(super) fn give(&self, target: &mut Target, path: &Path, errand: &Errand<'_>) -> Result<(), BoxError> {
        match self {
            Self::Chunks(chunks) => from_chunks(chunks, target, path, errand.cancel),
            Self::Image(stored) => match stored.disk() {
                Some(disk) => from_image(&disk.path, target, path, errand),
                None => Ok(()),
            },
        }
    }
}

fn from_chunks(
    chunks: &ChunkStore,
    target: &mut Target,
    path: &Path,
    cancel: &Cancel,
) -> Result<(), BoxError> {
    for (digest, _) in target.missing() {
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        // One that is damaged, or collected just now, is fetched.
        if let Ok(bytes) = chunks.get(&digest) {
            target.give(&digest, &bytes).map_err(|error| BoxError::io("write", path, error))?;
        }
    }
    Ok(())
}

fn from_image(image: &Path, target: &mut Target, path: &Path, errand: &Errand<'_>) -> Result<(), BoxError> {
    let failed = |error| BoxError::io("read", image, error);
    let file = File::open(image).map_err(failed)?;
    errand.progress.phase("looking for what is here", Some(file.metadata().map_err(failed)?.len()));
    let mut cutter = Cutter::default();
    let mut give = |bytes: &[u8]| {
        target.give(&Digest::of(bytes), bytes).map_err(|error| BoxError::io("write", path, error))
    };
    let mut sink = |piece: Piece<'_>| match piece {
        Piece::Chunk(bytes) => give(bytes),
        // Whole chunks of zeros are wanted of nobody.
        Piece::Hole(length) => zeros(length % MAX_CHUNK as u64).try_for_each(&mut give),
    };
    feed_file(&file, failed, |found| {
        if errand.cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        match found {
            Found::Data(bytes) => {
                errand.progress.advance(bytes.len() as u64);
                cutter.push(bytes, &mut sink)
            }
            Found::Hole(length) => {
                errand.progress.advance(length);
                cutter.push_hole(length, &mut sink)
            }
        }
    })?;
    cutter.finish(&mut sink)
}
