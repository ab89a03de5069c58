//! Taking away what can be made again, and what nobody needs.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use posada_provider_api::DiskFormat;
use serde::Serialize;

use super::Store;
use super::chunked::read_manifest;
use super::lease::Lease;
use super::record::Record;
use crate::disk::file_name;
use crate::{BoxError, Cancel, Digest, Progress};

/// What was taken away, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BoxGc {
    /// Disk images that no machine lies on, kept as chunks from now on.
    pub images: u64,
    /// Bytes these took on the host.
    pub image_bytes: u64,
    /// Chunks that no box needs.
    pub chunks: u64,
    /// Bytes these took.
    pub chunk_bytes: u64,
    /// Bytes of all chunks that stay; with `dry_run`, of those that are there.
    pub kept_bytes: u64,
}

impl Store {
    /// Deletes boxes without a name that no machine is made from, keeps raw disk images that no machine lies on as
    /// chunks alone, and deletes chunks that no box needs. `in_use` tells which machines are made from a digest, and
    /// is asked anew each time. With `dry_run` nothing is changed.
    ///
    /// # Errors
    /// [`BoxError::Damaged`], [`BoxError::DiskFull`], [`BoxError::Cancelled`], [`BoxError::Io`]; what was done
    /// until then is done.
    pub fn gc(
        &self,
        dry_run: bool,
        in_use: &dyn Fn(&Digest) -> Vec<String>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BoxGc, BoxError> {
        let mut done = BoxGc::default();
        if !dry_run {
            self.prune(in_use)?;
        }
        for record in self.records()? {
            if let Some(bytes) = self.evict(&record, dry_run, in_use, progress, cancel)? {
                done.images += 1;
                done.image_bytes += bytes;
            }
        }
        let chunks = self.chunks()?;
        // Errors of the records are told as such.
        let live = || -> Result<HashSet<posada_chunks::Digest>, Failed> {
            let mut live = HashSet::new();
            for record in self.records()? {
                let manifest = read_manifest(&self.layout.home(&record.digest))?;
                live.extend(manifest.iter().flat_map(|m| m.chunks().map(|(_, digest, _)| digest)));
            }
            Ok(live)
        };
        let failed = |error| BoxError::chunks(chunks.root(), error);
        let collected = chunks.gc(dry_run, live).map_err(|error| match error {
            Failed::Box(error) => error,
            Failed::Chunks(error) => failed(error),
        })?;
        (done.chunks, done.chunk_bytes) = (collected.chunks, collected.bytes);
        done.kept_bytes = chunks.list().map_err(failed)?.iter().map(|(_, bytes)| bytes).sum();
        Ok(done)
    }

    /// Takes the image of one box away, where that can be done; how many bytes it took comes back.
    fn evict(
        &self,
        record: &Record,
        dry_run: bool,
        in_use: &dyn Fn(&Digest) -> Vec<String>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<u64>, BoxError> {
        let raw = record.disk.as_ref().is_some_and(|disk| disk.format == DiskFormat::Raw);
        let home = self.layout.home(&record.digest);
        let image = home.join(file_name(DiskFormat::Raw));
        if !raw || !in_use(&record.digest).is_empty() {
            return Ok(None);
        }
        // Others may collect as well: with a lease, none of them takes away what is being read here.
        let Some(lease) = Lease::take(&home)? else { return Ok(None) };
        let stat = match std::fs::metadata(&image) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BoxError::io("look at", image, error)),
        };
        let bytes = stat.blocks() * 512;
        if dry_run {
            return Ok(Some(bytes));
        }
        progress.phase("dividing disk images", None);
        let manifest = self.divide(record, progress, cancel)?;
        if manifest.size() != stat.len() {
            let what = "its disk image does not have the size of its list of chunks".to_owned();
            return Err(BoxError::Damaged { path: image, what });
        }
        let Some(_alone) = lease.alone(&home)? else { return Ok(None) };
        // A machine that was being made when it was first asked is there by now.
        if !in_use(&record.digest).is_empty() {
            return Ok(None);
        }
        match std::fs::remove_file(&image) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BoxError::io("remove", image, error)),
        }
    }
}

/// What ends a collection.
enum Failed {
    Box(BoxError),
    Chunks(posada_chunks::Error),
}

impl From<BoxError> for Failed {
    fn from(error: BoxError) -> Self {
        Self::Box(error)
    }
}

impl From<posada_chunks::Error> for Failed {
    fn from(error: posada_chunks::Error) -> Self {
        Self::Chunks(error)
    }
}
