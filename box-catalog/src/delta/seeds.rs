//! What boxes here have of a file's chunks.

use std::fs::File;
use std::io;
use std::path::Path;

use posada_chunks::{ChunkStore, Cutter, Digest, Found, MAX_CHUNK, Piece, feed_file, zeros};

use super::target::Target;
use crate::pack::Job;
use crate::source::Errand;
use crate::{BoxError, Cancel, Form, Store, StoredBox, worker};

/// Versions of a box that are looked at, the newest first: each is read as a whole.
const VERSIONS: usize = 2;
/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// Something here that may have chunks.
pub(super) enum Seed {
    /// A box whose disk image stays in place.
    Image(Box<StoredBox>),
    /// A root file system, packed as pushes pack them.
    Tree(Box<StoredBox>),
    /// The chunks of all images that were divided.
    Chunks(ChunkStore),
}

impl Store {
    /// What may have chunks of a file of the box `name` in this form.
    pub(super) fn seeds(&self, name: &str, form: Form) -> Result<Vec<Seed>, BoxError> {
        let fits = |stored: &StoredBox| stored.name == name && stored.metadata.provides.contains(&form);
        let mut versions: Vec<StoredBox> = self.list()?.into_iter().filter(fits).collect();
        versions.sort_by(|one, other| other.version.cmp(&one.version));
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        if form == Form::Rootfs {
            return Ok(versions
                .into_iter()
                .take(VERSIONS)
                .map(|stored| Seed::Tree(Box::new(stored)))
                .collect());
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
            Self::Tree(stored) => match stored.tree_job() {
                Some(job) => from_tree(&job, target, path, errand),
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
    let mut sink = sink(target, path);
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

fn from_tree(job: &Job, target: &mut Target, path: &Path, errand: &Errand<'_>) -> Result<(), BoxError> {
    errand.progress.phase("looking for what is here", None);
    let mut cutter = Cutter::default();
    let mut sink = sink(target, path);
    let mut given = Ok(());
    let packed = worker::pack(errand.store.exe(), job, errand.cancel, |archive| {
        let mut piece = vec![0; PIECE];
        loop {
            let count = archive.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            errand.progress.advance(count as u64);
            given = cutter.push(&piece[..count], &mut sink);
            if given.is_err() {
                return Err(io::Error::other("what was packed is not wanted any more"));
            }
        }
    });
    // Where what it gave could not be written, that is what ended it.
    given.and(packed)?;
    cutter.finish(&mut sink)
}

/// Puts the pieces of what is cut into `target`, the file at `path`.
fn sink<'a>(target: &'a mut Target, path: &'a Path) -> impl FnMut(Piece<'_>) -> Result<(), BoxError> + 'a {
    let mut give = move |bytes: &[u8]| {
        target.give(&Digest::of(bytes), bytes).map_err(|error| BoxError::io("write", path, error))
    };
    move |piece| match piece {
        Piece::Chunk(bytes) => give(bytes),
        // Whole chunks of zeros are wanted of nobody.
        Piece::Hole(length) => zeros(length % MAX_CHUNK as u64).try_for_each(&mut give),
    }
}
