//! Disk images as chunks: divided once, and made from them again when they are wanted.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use posada_chunks::{ChunkStore, Manifest};
use posada_provider_api::DiskFormat;

use super::lease::Lease;
use super::record::{Record, sync_directory};
use super::resolve::missing;
use super::{Store, StoredBox};
use crate::disk::{CHUNKS, file_name};
use crate::{BoxError, Cancel, Progress};

impl Store {
    /// The chunks of all boxes.
    pub(crate) fn chunks(&self) -> Result<ChunkStore, BoxError> {
        let path = self.layout.chunks();
        ChunkStore::open(&path).map_err(|error| BoxError::chunks(path, error))
    }

    /// Has the disk image of a box in place, where it holds one; it stays there as long as what comes back lives.
    ///
    /// # Errors
    /// [`BoxError::Chunks`], [`BoxError::DiskFull`], [`BoxError::Cancelled`], [`BoxError::Damaged`], [`BoxError::Io`].
    pub fn in_place(
        &self,
        mut stored: StoredBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let Some(disk) = stored.disk() else { return Ok(stored) };
        // One that was removed since it was found.
        let gone = || self.list().map(|all| missing(&stored.name, &all));
        let Some(lease) = Lease::take(&stored.home)? else { return Err(gone()?) };
        let there = disk.path.try_exists().map_err(|error| BoxError::io("look for", &disk.path, error))?;
        if there {
            stored.lease = lease;
            return Ok(stored);
        }
        if Record::read(&stored.home)?.is_none() {
            return Err(gone()?);
        }
        let Some(manifest) = read_manifest(&stored.home)? else {
            let what = "its disk image is gone".to_owned();
            return Err(BoxError::Damaged { path: disk.path, what });
        };
        self.sweep()?;
        let incoming = self.incoming()?;
        let part = incoming.path().join(file_name(disk.format));
        let failed = |error| BoxError::io("write", part.clone(), error);
        let kept: u64 = manifest.chunks().map(|(_, _, length)| u64::from(length)).sum();
        progress.phase("assembling", Some(kept));
        let file = File::create_new(&part).map_err(failed)?;
        self.chunks()?
            .assemble(&manifest, &file, &|bytes| progress.advance(bytes), &|| cancel.is_cancelled())
            .map_err(|error| BoxError::chunks(&disk.path, error))?;
        file.set_permissions(Permissions::from_mode(0o444)).and_then(|()| file.sync_all()).map_err(failed)?;
        // Under the lock, so that of two processes the second leaves what machines may lie on already.
        let _locked = self.layout.lock()?;
        if !disk.path.try_exists().map_err(failed)? {
            std::fs::rename(&part, &disk.path).map_err(failed)?;
            sync_directory(&stored.home)?;
        }
        stored.lease = lease;
        Ok(stored)
    }

    /// The box with a hold on its disk image, where that is in place; `None` where the box is gone.
    pub(crate) fn leased(&self, mut stored: StoredBox) -> Result<Option<StoredBox>, BoxError> {
        let Some(lease) = Lease::take(&stored.home)? else { return Ok(None) };
        stored.lease = lease;
        Ok(Some(stored))
    }

    /// Divides the raw disk image of a box into chunks; its directory then says which. Where that was done before, only
    /// chunks that are gone come in again.
    pub(super) fn divide(
        &self,
        record: &Record,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Manifest, BoxError> {
        let home = self.layout.home(&record.digest);
        let image = home.join(file_name(DiskFormat::Raw));
        if let Some(manifest) = read_manifest(&home)?
            && self.chunks()?.missing(&manifest).map_err(|error| BoxError::chunks(&image, error))?.is_empty()
        {
            return Ok(manifest);
        }
        let failed = |error| BoxError::chunks(&image, error);
        let adder = self.chunks()?.adder().map_err(failed)?;
        let advance = |bytes| progress.advance(bytes);
        let manifest = adder.file(&image, &advance, &|| cancel.is_cancelled()).map_err(failed)?;
        let kept = adder.commit().map_err(failed)?;
        let path = home.join(CHUNKS);
        let failed = |error| BoxError::io("write", path.clone(), error);
        let mut file = tempfile::NamedTempFile::new_in(&home).map_err(failed)?;
        file.write_all(&manifest.to_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        sync_directory(&home)?;
        drop(kept);
        Ok(manifest)
    }
}

/// The list of chunks in the directory of a box; `None` where its disk was not divided.
pub fn read_manifest(home: &Path) -> Result<Option<Manifest>, BoxError> {
    let path = home.join(CHUNKS);
    match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BoxError::io("read", path, error)),
        Ok(bytes) => Manifest::parse(&bytes)
            .map(Some)
            .map_err(|error| BoxError::Damaged { path, what: error.to_string() }),
    }
}
