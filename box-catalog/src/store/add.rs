//! How a box comes into the store.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use posada_fetch::Checksum;
use rustix::fs::OFlags;

use super::fingerprint::Fingerprint;
use super::record::{self, Name, Record, sync_directory};
use super::{Store, StoredBox};
use crate::{BoxError, BoxRef, Cancel, Digest, Form, Progress, Refusal, Version, VersionReq, worker};

/// What a box is to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBox {
    /// Its name: `debian/12`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Who logs in; `None` goes by what the box says of itself, else the user with the id 1000, else root.
    pub user: Option<String>,
    /// Whether it takes the place of other content of this name and version.
    pub replace: bool,
}

impl Store {
    /// Adds the archive at `archive`: tar, plain or compressed with gzip, xz or zstd, of a root file system; or
    /// a Vagrant box made for LXC. Content that is there already is only given the new name.
    ///
    /// # Errors
    /// [`BoxError::NotABox`], [`BoxError::VersionTaken`], [`BoxError::DiskFull`], [`BoxError::Cancelled`],
    /// [`BoxError::Io`]; the store is then as it was.
    pub fn add(
        &self,
        archive: &Path,
        new: &NewBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        self.add_file(archive, None, new, progress, cancel)
    }

    /// As [`Store::add`], for a file that has this `checksum`. Nothing is unpacked of one that has another.
    ///
    /// # Errors
    /// [`BoxError::Mismatch`]; [`BoxError::Changing`] where it was written to meanwhile; and those of [`Store::add`].
    pub fn add_checked(
        &self,
        archive: &Path,
        checksum: &Checksum,
        new: &NewBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        self.add_file(archive, Some(checksum), new, progress, cancel)
    }

    fn add_file(
        &self,
        archive: &Path,
        checksum: Option<&Checksum>,
        new: &NewBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let failed = |error| BoxError::io("read", archive, error);
        let fingerprint = Fingerprint::of(archive)?;
        // Opening a pipe that nobody writes to must not wait for one who does.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = File::options().read(true).custom_flags(flags).open(archive).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() {
            let is = if kind.is_dir() { "a directory" } else { "a pipe or device" };
            let refusal = Refusal::NotAnArchive(is.to_owned());
            return Err(BoxError::NotABox { what: archive.display().to_string(), refusal });
        }
        if let Some(wanted) = checksum {
            progress.phase("verifying", Some(fingerprint.size()));
            verify(&file, archive, wanted, progress, cancel)?;
            file.rewind().map_err(failed)?;
        }
        progress.phase("unpacking", Some(fingerprint.size()));
        let what = archive.display().to_string();
        // What was unpacked is what was verified only where nobody wrote to it in between.
        let before = fingerprint.clone();
        let sound = || match checksum {
            Some(_) if Fingerprint::of(archive)? != before => Err(BoxError::Changing(archive.to_owned())),
            _ => Ok(()),
        };
        self.ingest(&what, file.into(), new, Form::Rootfs, Some(fingerprint), progress, cancel, sound)
    }

    /// The box that `wanted` names and that holds `form`; a file is added first where that has not been done, and what is
    /// elsewhere is fetched. Its disk image is in place, and stays so as long as what comes back lives.
    ///
    /// # Errors
    /// Those of [`Store::resolve`], [`Store::add`] and [`Store::fetch`].
    pub fn obtain(
        &self,
        wanted: &BoxRef,
        requirement: Option<&VersionReq>,
        form: Form,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let stored = match (self.resolve(wanted, requirement, form), wanted) {
            (Err(BoxError::FileNotAdded(_)), BoxRef::File(path)) => {
                let fingerprint = Fingerprint::of(path)?;
                let new = NewBox {
                    name: file_name(fingerprint.path()),
                    version: Version::parse("0").map_err(|error| BoxError::Name(error.to_string()))?,
                    user: None,
                    replace: true,
                };
                let added = self.add(path, &new, progress, cancel)?;
                added.layer(form).map(|_| added)
            }
            (Ok(stored), _) => Ok(stored),
            (resolved, BoxRef::File(_)) => resolved,
            (
                Err(
                    missing @ (BoxError::Missing { .. }
                    | BoxError::MissingVersion { .. }
                    | BoxError::MissingForm { .. }),
                ),
                elsewhere,
            ) => self.fetch_missing(elsewhere, requirement, form, missing, progress, cancel),
            (resolved, _) => resolved,
        }?;
        if form == Form::Disk { self.in_place(stored, progress, cancel) } else { Ok(stored) }
    }

    /// As [`Store::obtain`], else [`Store::derive`], for the box of this version with this digest and no other; `None` where it is
    /// not to be had.
    ///
    /// # Errors
    /// Those of [`Store::obtain`] that say something else.
    pub fn obtain_exactly(
        &self,
        wanted: &BoxRef,
        (version, digest): (&Version, &Digest),
        form: Form,
        kernel: Option<&BoxRef>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<StoredBox>, BoxError> {
        let called = |stored: &StoredBox| match wanted {
            BoxRef::Named(name) => stored.name == *name && stored.version == *version,
            _ => true,
        };
        let there = self.list()?.into_iter().find(|stored| stored.digest == *digest && called(stored));
        if let Some(stored) = there
            && stored.layer(form).is_ok()
        {
            let in_place = if form == Form::Disk { self.in_place(stored, progress, cancel)? } else { stored };
            return Ok(Some(in_place));
        }
        // All else has one version only, or names it.
        let requirement = match wanted {
            BoxRef::Named(_) => VersionReq::parse(&format!("= {version}")).ok(),
            _ => None,
        };
        let found = match self.obtain(wanted, requirement.as_ref(), form, progress, cancel) {
            Err(BoxError::MissingForm { .. }) => {
                match self.derive(wanted, requirement.as_ref(), form, kernel, progress, cancel) {
                    Err(BoxError::MissingForm { .. }) => return Ok(None),
                    derived => derived,
                }
            }
            found => found,
        };
        match found {
            Ok(stored) => Ok((stored.digest == *digest).then_some(stored)),
            Err(
                BoxError::Missing { .. }
                | BoxError::MissingVersion { .. }
                | BoxError::NotOffered { .. }
                | BoxError::VersionTaken { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes an archive from `input`; `what` is what errors call it. Where `form` is a disk, one is
    /// made of a root file system. `sound` has the last word, once all of it
    /// was read.
    #[expect(clippy::too_many_arguments, reason = "one private call, from two places")]
    pub(crate) fn ingest(
        &self,
        what: &str,
        input: Stdio,
        new: &NewBox,
        form: Form,
        file: Option<Fingerprint>,
        progress: &dyn Progress,
        cancel: &Cancel,
        sound: impl FnOnce() -> Result<(), BoxError>,
    ) -> Result<StoredBox, BoxError> {
        if !matches!(BoxRef::parse(&new.name), Ok(BoxRef::Named(_))) {
            return Err(BoxError::Name(new.name.clone()));
        }
        self.sweep()?;
        let incoming = self.incoming()?;
        let unpacked =
            worker::unpack(&self.exe, incoming.path(), input, new.user.as_deref(), form, progress, cancel);
        let sound = sound();
        let unpacked = match unpacked {
            Ok(unpacked) => sound.map(|()| unpacked)?,
            Err(failure) => {
                // An archive that just ends is explained by the failure of its writer.
                let ends = Refusal::is_early_end;
                if matches!(&failure, worker::Failure::Refused(refusal) if ends(refusal)) {
                    sound?;
                }
                return Err(self.told(what, failure));
            }
        };
        if unpacked.skipped_devices > 0 {
            progress.warn(&format!(
                "{} device nodes in the box were left out; machines get their own",
                unpacked.skipped_devices
            ));
        }
        unpacked.notes.iter().for_each(|note| progress.warn(note));
        progress.phase("storing", None);
        let name = Name {
            name: new.name.clone(),
            version: new.version.clone(),
            added: record::seconds(SystemTime::now()),
            file,
            replaced: false,
        };
        self.commit(incoming, Record::new(unpacked, name.clone()), name, new.replace)
    }

    /// Why the worker has not made a box of `what`.
    pub(super) fn told(&self, what: &str, failure: worker::Failure) -> BoxError {
        match failure {
            worker::Failure::Refused(Refusal::DiskFull) => BoxError::DiskFull(self.root().to_owned()),
            worker::Failure::Refused(refusal) => BoxError::NotABox { what: what.to_owned(), refusal },
            worker::Failure::Other(error) => error,
        }
    }

    pub(super) fn commit(
        &self,
        incoming: super::incoming::Incoming<'_>,
        record: Record,
        name: Name,
        replace: bool,
    ) -> Result<StoredBox, BoxError> {
        record.write(incoming.path())?;
        let locked = self.layout.lock()?;
        let mut others = self.records()?;
        others.retain(|other| other.names.iter().any(|there| there.is(&name.name, &name.version)));
        let outdated = |other: &Record| other.is_outdated_by(&record);
        if !replace && others.iter().any(|other| record.rivals(other) && !outdated(other)) {
            return Err(BoxError::VersionTaken { name: name.name, version: name.version });
        }
        let loses = others.iter().any(|other| record.rivals(other) || outdated(other));
        let home = self.layout.home(&record.digest);
        let stored = match Record::read(&home)? {
            Some(mut there) => {
                there.names.retain(|other| other.name != name.name || other.version != name.version);
                there.names.push(name.clone());
                there.write(&home)?;
                there
            }
            None => {
                incoming.keep(&home)?;
                sync_directory(&self.layout.trees())?;
                record
            }
        };
        if loses {
            self.take_name(&locked, &name, &stored)?;
        }
        Ok(stored.under(&name, &self.layout))
    }
}

/// Holds a file against the checksum it should have.
fn verify(
    file: &File,
    path: &Path,
    wanted: &Checksum,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), BoxError> {
    let advance = |bytes| {
        progress.advance(bytes);
        if cancel.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    let got = Checksum::of_all(wanted.algorithm(), file, advance);
    if cancel.is_cancelled() {
        return Err(BoxError::Cancelled);
    }
    let got = got.map_err(|error| BoxError::io("read", path, error))?;
    if got == *wanted {
        Ok(())
    } else {
        Err(BoxError::Mismatch { path: path.to_owned(), wanted: wanted.clone(), got })
    }
}

/// The name that a file goes by which a Vmfile names by its path: readable, and another one for each path.
fn file_name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;

    crate::source::digest_name("file", path.as_os_str().as_bytes(), &path.to_string_lossy())
}
