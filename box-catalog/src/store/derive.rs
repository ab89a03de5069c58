//! A form of a box that is made of the other one, once.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::incoming::Incoming;
use super::record::{self, Name, Record};
use super::resolve::missing_form;
use super::{Store, StoredBox};
use crate::unpack::{Refusal, Unpacked};
use crate::worker::{self, Failure};
use crate::{BoxError, BoxRef, Cancel, Digest, Form, Progress, VersionReq};

impl Store {
    /// The box that `wanted` names, made into `form` from the form that it has, unless that was done before. What is made
    /// goes by the same name and version, and no longer does so once that name is given to other content. A disk is made with
    /// the kernel of the root file system, else with that of the box `kernel`.
    ///
    /// # Errors
    /// Those of [`Store::obtain`]; [`BoxError::MissingForm`], [`BoxError::NoKernel`] and [`BoxError::NoWayIn`] where it
    /// cannot be made, [`BoxError::NotABox`].
    pub fn derive(
        &self,
        wanted: &BoxRef,
        requirement: Option<&VersionReq>,
        form: Form,
        kernel: Option<&BoxRef>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        if let Ok(stored) = self.resolve(wanted, requirement, form) {
            return if form == Form::Disk { self.in_place(stored, progress, cancel) } else { Ok(stored) };
        }
        match form {
            Form::Rootfs => {
                let disk = self.obtain(wanted, requirement, Form::Disk, progress, cancel)?;
                self.tree_of(&disk, progress, cancel)
            }
            Form::Disk => {
                let tree = self.obtain(wanted, requirement, Form::Rootfs, progress, cancel)?;
                let kernel = kernel
                    .map(|kernel| self.obtain(kernel, None, Form::Disk, progress, cancel))
                    .transpose()?;
                let disk = self.disk_of(&tree, kernel.as_ref(), progress, cancel)?;
                self.in_place(disk, progress, cancel)
            }
        }
    }

    /// The root file system on the disk of `stored`, as a box.
    fn tree_of(
        &self,
        stored: &StoredBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let disk = stored.disk().ok_or_else(|| missing_form(&stored.name, Form::Disk))?;
        let digest = digest_of("a root file system", &[stored.digest]);
        self.made_of(stored, digest, "extracting", progress, cancel, |incoming| {
            let user = Some(stored.metadata.user.as_str());
            worker::tree_of_disk(&self.exe, incoming.path(), &disk.path, user, progress, cancel)
        })
    }

    /// A disk image with the root file system of `stored`, as a box.
    fn disk_of(
        &self,
        stored: &StoredBox,
        kernel: Option<&StoredBox>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let tree = stored.rootfs().ok_or_else(|| missing_form(&stored.name, Form::Rootfs))?;
        let digests: Vec<Digest> = [stored].into_iter().chain(kernel).map(|of| of.digest).collect();
        let work = worker::DiskOfTree {
            tree,
            size: stored.size,
            kernel: kernel.and_then(StoredBox::disk).map(|disk| disk.path),
            digest: digest_of("a disk image", &digests),
            user: stored.metadata.user.clone(),
        };
        let made = self.made_of(stored, work.digest, "making a disk of", progress, cancel, |incoming| {
            worker::disk_of_tree(&self.exe, incoming.path(), &work, progress, cancel)
        });
        made.map_err(|error| match error {
            BoxError::NotABox { refusal: Refusal::NoKernel, .. } => BoxError::NoKernel(stored.name.clone()),
            BoxError::NotABox { refusal: Refusal::NoWayIn, .. } => BoxError::NoWayIn(stored.name.clone()),
            other => other,
        })
    }

    /// What `work` makes of `stored`, as a box of that name with this digest.
    fn made_of(
        &self,
        stored: &StoredBox,
        digest: Digest,
        phase: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
        work: impl FnOnce(&Incoming<'_>) -> Result<Unpacked, Failure>,
    ) -> Result<StoredBox, BoxError> {
        let home = self.layout.home(&stored.digest);
        let _turn = turn(&home, progress, cancel)?;
        // Whoever had it before may have made it.
        let made = Record::read(&self.layout.home(&digest))?;
        if let Some(made) = &made
            && let Some(name) = made.names.iter().find(|name| name.is(&stored.name, &stored.version))
        {
            return Ok(made.under(name, &self.layout));
        }
        let source = Record::read(&home)?;
        let file = source.and_then(|record| {
            record.names.into_iter().find(|name| name.is(&stored.name, &stored.version))?.file
        });
        let name = Name {
            name: stored.name.clone(),
            version: stored.version.clone(),
            added: record::seconds(SystemTime::now()),
            file,
            replaced: false,
        };
        self.sweep()?;
        let incoming = self.incoming()?;
        progress.phase(phase, None);
        let unpacked = work(&incoming).map_err(|failure| self.told(&stored.name, failure))?;
        unpacked.notes.iter().for_each(|note| progress.warn(note));
        progress.phase("storing", None);
        let mut record = Record::new(Unpacked { digest, ..unpacked }, name.clone());
        record.derived_from = Some(stored.digest);
        self.commit(incoming, record, name, false)
    }
}

/// Waits until nobody else makes something of the box in `home`, and keeps others from it as long as what comes back lives.
fn turn(home: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<File, BoxError> {
    /// Goes with the box.
    const LOCK: &str = "deriving";
    let path = home.join(LOCK);
    let failed = |error| BoxError::io("lock", path.clone(), error);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    progress.phase("waiting for who makes it already", None);
    let (done, outcome) = std::sync::mpsc::channel();
    let cancelled = done.clone();
    let _watch = cancel.on_cancel(move || {
        let _ = cancelled.send(None);
    });
    // It stays behind where the wait is cancelled, and lets go of the lock as soon as it has it.
    std::thread::spawn(move || {
        let _ = done.send(Some(file.lock().map(|()| file)));
    });
    match outcome.recv() {
        Ok(Some(locked)) => locked.map_err(failed),
        Ok(None) | Err(_) => Err(BoxError::Cancelled),
    }
}

/// What stands for the content that is made of boxes: the same makes the same.
fn digest_of(what: &str, boxes: &[Digest]) -> Digest {
    let boxes: Vec<String> = boxes.iter().map(Digest::to_string).collect();
    Digest::from_bytes(Sha256::digest(format!("posada: {what} of {}", boxes.join(" with "))).into())
}
