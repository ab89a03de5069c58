//! Directories on their way in and out, and what crashes have left of them.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::Store;
use super::layout::Locked;
use crate::{BoxError, worker};

/// Names the file that says where a directory outside of the store is.
const ELSEWHERE: &str = "elsewhere";

/// A directory to work in. When it is dropped, it waits for all programs that hold it, and is deleted.
#[derive(Debug)]
pub(crate) struct Scratch<'a>(Incoming<'a>);

impl Scratch<'_> {
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory in `parent` that everybody can pass through, and that goes away with this one.
    pub fn elsewhere(&self, parent: &Path) -> Result<PathBuf, BoxError> {
        let name: PathBuf =
            [OsStr::new("posada-build-"), &fresh_name()].into_iter().collect::<OsString>().into();
        let path = parent.join(name);
        let note = self.path().join(ELSEWHERE);
        let failed = |error| BoxError::io("write", note.clone(), error);
        // Written down before it is made.
        let mut file = File::create(&note).map_err(failed)?;
        file.write_all(path.as_os_str().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let made = std::fs::create_dir(&path);
        // Whatever the umask is.
        made.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o711)))
            .map_err(|error| BoxError::io("make", path.clone(), error))?;
        Ok(path)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // Programs that were killed may still be ending; this is granted when the last of them has.
        let _ = rustix::fs::flock(&self.0.held, FlockOperation::LockExclusive);
        self.0.store.delete_elsewhere(self.0.path());
    }
}

/// A directory that a box is being unpacked in. Dropped unless it was kept.
#[derive(Debug)]
pub struct Incoming<'a> {
    store: &'a Store,
    path: PathBuf,
    /// Holds the lock that says somebody is at work here.
    held: File,
    kept: bool,
}

impl Incoming<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the directory `target` for good.
    pub fn keep(mut self, target: &Path) -> Result<(), BoxError> {
        std::fs::rename(&self.path, target).map_err(|error| BoxError::io("make", target, error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Ok(name) = self.store.to_trash(&self.path)
        {
            // What cannot be deleted now is deleted by the next sweep.
            let _ = worker::delete(&self.store.exe, &self.store.layout.trash(), &[name]);
        }
    }
}

impl Store {
    /// A new directory to unpack in.
    pub(super) fn incoming(&self) -> Result<Incoming<'_>, BoxError> {
        // Under the lock, as a sweep in between would see a directory that nobody holds.
        let _locked = self.layout.lock()?;
        let path = self.layout.incoming().join(fresh_name());
        let failed = |error| BoxError::io("make", path.clone(), error);
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let held = File::open(&path).map_err(failed)?;
        rustix::fs::flock(&held, FlockOperation::LockShared).map_err(|errno| failed(errno.into()))?;
        Ok(Incoming { store: self, path, held, kept: false })
    }

    /// Runs `work` with a directory of its own, which goes away afterwards, also after a crash.
    pub(crate) fn scratch<T>(
        &self,
        work: impl FnOnce(&Scratch<'_>) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        self.sweep()?;
        let scratch = Scratch(self.incoming()?);
        work(&scratch)
    }

    /// Our own binary.
    pub(crate) fn exe(&self) -> &Path {
        &self.exe
    }

    /// Moves a directory of the store out of the way; the name it has in the trash comes back.
    pub(super) fn to_trash(&self, directory: &Path) -> Result<OsString, BoxError> {
        let name = fresh_name();
        let target = self.layout.trash().join(&name);
        std::fs::rename(directory, target).map_err(|error| BoxError::io("remove", directory, error))?;
        Ok(name)
    }

    /// Deletes directories that were moved to the trash.
    pub(super) fn delete(&self, names: &[OsString]) -> Result<(), BoxError> {
        if names.is_empty() { Ok(()) } else { worker::delete(&self.exe, &self.layout.trash(), names) }
    }

    /// Deletes the directory outside of the store that belongs to `directory`, where it has one.
    fn delete_elsewhere(&self, directory: &Path) {
        let written = std::fs::read(directory.join(ELSEWHERE)).unwrap_or_default();
        let outside = PathBuf::from(OsString::from_vec(written));
        if let (Some(parent), Some(name)) = (outside.parent(), outside.file_name()) {
            // What cannot be deleted is not the store's any more, and only costs space.
            let _ = worker::delete(&self.exe, parent, &[name.to_owned()]);
        }
    }

    /// Removes what crashes have left; what cannot be deleted now is left to the next sweep.
    pub(super) fn sweep(&self) -> Result<(), BoxError> {
        let locked = self.layout.lock()?;
        for path in abandoned(&locked, &self.layout.incoming())? {
            self.delete_elsewhere(&path);
            self.to_trash(&path)?;
        }
        drop(locked);
        let names = entries(&self.layout.trash())?;
        let names: Vec<_> =
            names.into_iter().filter_map(|path| path.file_name().map(OsString::from)).collect();
        let _ = self.delete(&names);
        Ok(())
    }
}

/// Directories that nobody holds. The lock keeps new ones from appearing meanwhile.
fn abandoned(_: &Locked, directory: &Path) -> Result<Vec<PathBuf>, BoxError> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        let file = match File::open(&path) {
            // Its holder has just moved it to the trash.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| BoxError::io("open", &path, error))?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => found.push(path),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(BoxError::io("lock", path, errno.into())),
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, BoxError> {
    let failed = |error| BoxError::io("read", directory, error);
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// A name that nothing has had before.
fn fresh_name() -> OsString {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}-{}-{count}", now.as_nanos(), std::process::id()).into()
}
