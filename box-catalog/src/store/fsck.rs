//! Looking whether all boxes are whole.

use std::convert::Infallible;
use std::fs::File;

use posada_chunks::{Cutter, Digest as ChunkDigest, Entry, Found, Piece, feed_file};
use serde::Serialize;

use super::Store;
use super::chunked::read_manifest;
use super::lease::Lease;
use super::record::Record;
use crate::disk::file_name;
use crate::{BoxError, Cancel, Digest, Progress, Version};

/// A box that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoxDamage {
    /// One of its names; `None` where all of them were given to other content.
    pub name: Option<String>,
    /// The version of that name.
    pub version: Option<Version>,
    /// What it is known by.
    pub digest: Digest,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BoxFsck {
    /// How many boxes there are.
    pub boxes: u64,
    /// How many of these hold files that nothing is known of to compare them with: root file systems, and disk images
    /// that were not divided into chunks.
    pub not_compared: u64,
    /// How many chunks were looked at.
    pub chunks: u64,
    /// How many of these were damaged, and were taken out, so that they come back when their box is added again.
    pub damaged_chunks: u64,
    /// How many chunks that were damaged or gone were brought back from a disk image in place.
    pub restored_chunks: u64,
    /// Boxes that are not whole.
    pub damaged: Vec<BoxDamage>,
}

impl Store {
    /// Reads all chunks and all disk images that were divided, and compares them with what they must be. Chunks that
    /// are not are taken out, and brought back where an image has them.
    ///
    /// # Errors
    /// [`BoxError::Damaged`] for records, [`BoxError::Cancelled`], [`BoxError::Io`].
    pub fn fsck(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<BoxFsck, BoxError> {
        let chunks = self.chunks()?;
        let failed = |error| BoxError::chunks(chunks.root(), error);
        progress.phase("reading chunks", None);
        let found =
            chunks.fsck(&|bytes| progress.advance(bytes), &|| cancel.is_cancelled()).map_err(failed)?;
        for damage in &found.damaged {
            chunks.discard(&damage.digest).map_err(failed)?;
        }
        let mut fsck = BoxFsck {
            chunks: found.chunks,
            damaged_chunks: found.damaged.len() as u64,
            ..BoxFsck::default()
        };
        progress.phase("reading disk images", None);
        for record in self.records()? {
            let home = self.layout.home(&record.digest);
            // Nobody takes the image away while it is looked at. A box that was removed meanwhile is none.
            let Some(_lease) = Lease::take(&home)? else { continue };
            if Record::read(&home)?.is_none() {
                continue;
            }
            fsck.boxes += 1;
            let Some(disk) = &record.disk else {
                fsck.not_compared += 1;
                continue;
            };
            let image = home.join(file_name(disk.format));
            let manifest = match read_manifest(&home) {
                Ok(manifest) => manifest,
                Err(BoxError::Damaged { what, .. }) => {
                    fsck.damaged.push(damage(&record, what));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let there = match File::open(&image) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(BoxError::io("open", image, error)),
            };
            match (there, manifest) {
                (None, None) => fsck.damaged.push(damage(&record, "its disk image is gone".to_owned())),
                (Some(_), None) => fsck.not_compared += 1,
                (there, Some(manifest)) => {
                    let read = |error| BoxError::io("read", &image, error);
                    let whole = match &there {
                        Some(file) => cut(file, read, progress, cancel)? == manifest.entries(),
                        None => true,
                    };
                    if !whole {
                        fsck.damaged.push(damage(&record, "its disk image has changed".to_owned()));
                    }
                    let mut missing = chunks.missing(&manifest).map_err(failed)?;
                    if !missing.is_empty() && whole && there.is_some() {
                        fsck.restored_chunks += missing.len() as u64;
                        self.divide(&record, progress, cancel)?;
                        missing = chunks.missing(&manifest).map_err(failed)?;
                    }
                    if !missing.is_empty() {
                        let what = format!("{} of its chunks are damaged or gone", missing.len());
                        fsck.damaged.push(damage(&record, what));
                    }
                }
            }
        }
        Ok(fsck)
    }
}

/// What the image would be divided into.
fn cut(
    file: &File,
    failed: impl Fn(std::io::Error) -> BoxError,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<Entry>, BoxError> {
    let mut entries = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        entries.push(match piece {
            Piece::Hole(length) => Entry::Hole(length),
            // A chunk is far smaller than four gigabytes.
            Piece::Chunk(bytes) => {
                Entry::Chunk { digest: ChunkDigest::of(bytes), length: bytes.len() as u32 }
            }
        });
        Ok::<(), Infallible>(())
    };
    let mut cutter = Cutter::default();
    feed_file(file, failed, |found| {
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        let Ok(()) = match found {
            Found::Data(bytes) => {
                progress.advance(bytes.len() as u64);
                cutter.push(bytes, &mut sink)
            }
            Found::Hole(length) => cutter.push_hole(length, &mut sink),
        };
        Ok(())
    })?;
    let Ok(()) = cutter.finish(&mut sink);
    Ok(entries)
}

fn damage(record: &Record, what: String) -> BoxDamage {
    let named = record.names.iter().find(|name| !name.replaced);
    let hint = match named {
        Some(name) => format!(
            "remove it with `posada box remove {} --version {}`, and add it again",
            name.name, name.version
        ),
        None => {
            "it has no name any more; `posada box gc` deletes it once its machines are destroyed".to_owned()
        }
    };
    BoxDamage {
        name: named.map(|name| name.name.clone()),
        version: named.map(|name| name.version.clone()),
        digest: record.digest,
        what,
        hint,
    }
}
