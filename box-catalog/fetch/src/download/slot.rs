//! The place of one URL in the cache.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Downloaded, Request};
use crate::{Client, FetchError, Progress, Stop};

/// The place of one URL, held by this process alone.
#[derive(Debug)]
pub struct Slot {
    directory: PathBuf,
    _lock: File,
}

impl Slot {
    /// Takes the place of `url` in the cache at `cache`. Where another process holds it, `waiting` is called and its end is
    /// waited for; whoever asked should look whether what was wanted is there by then.
    ///
    /// # Errors
    /// [`FetchError::Io`], [`FetchError::DiskFull`], [`FetchError::Cancelled`].
    pub fn open(
        client: &Client,
        cache: &Path,
        url: &Url,
        waiting: &dyn Fn(),
        stop: &Stop,
    ) -> Result<Self, FetchError> {
        let digest: [u8; 32] = Sha256::digest(url.as_str().as_bytes()).into();
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = cache.join(name);
        loop {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| FetchError::io("make", &directory, error))?;
            let path = directory.join("lock");
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = match open {
                // The holder has just cleared it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| FetchError::io("open", &path, error))?,
            };
            let file = match file.try_lock() {
                Ok(()) => file,
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    wait(client, file, &path, stop)?
                }
                Err(TryLockError::Error(error)) => return Err(FetchError::io("lock", &path, error)),
            };
            // Cleared while it was waited for: the lock of what is no more.
            if is_the_one(&file, &path) {
                return Ok(Self { directory, _lock: file });
            }
        }
    }

    /// Its directory, which goes when it is cleared.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fetches the file, or what is missing of it.
    ///
    /// # Errors
    /// Each [`FetchError`]. What came is kept for the next time, unless it is not what was asked for.
    pub fn fetch(
        &self,
        client: &Client,
        request: &Request,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Downloaded, FetchError> {
        super::fetch::fetch(client, &self.directory, request, progress, stop)
    }

    /// Removes from the cache at `cache` what nobody has gone on with for so long, and nobody holds; how many places those were.
    ///
    /// # Errors
    /// [`FetchError::Io`].
    pub fn sweep(cache: &Path, idle: Duration) -> Result<usize, FetchError> {
        let entries = match fs_err::read_dir(cache) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            read => read.map_err(|error| FetchError::io("read", cache, error))?,
        };
        let mut swept = 0;
        for directory in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            // Each block that comes writes the journal, and so changes the directory.
            let idle_for = directory.metadata().and_then(|metadata| metadata.modified());
            let idle_for = idle_for.ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
            let held = File::options().write(true).open(directory.join("lock"));
            if idle_for < idle || held.as_ref().is_ok_and(|file| file.try_lock().is_err()) {
                continue;
            }
            fs_err::remove_dir_all(&directory)
                .map_err(|error| FetchError::io("remove", &directory, error))?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Removes it with all that is in it: what was fetched lies elsewhere now, or is of no use.
    ///
    /// # Errors
    /// [`FetchError::Io`].
    pub fn clear(self) -> Result<(), FetchError> {
        fs_err::remove_dir_all(&self.directory)
            .map_err(|error| FetchError::io("remove", &self.directory, error))
    }
}

/// Waits for the lock on a thread of its own, which stays behind where the wait is ended early.
fn wait(client: &Client, file: File, path: &Path, stop: &Stop) -> Result<File, FetchError> {
    client.run(stop, async {
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        let locked = locked.map_err(io::Error::other).flatten();
        locked.map_err(|error| FetchError::io("lock", path, error))
    })
}

fn is_the_one(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
