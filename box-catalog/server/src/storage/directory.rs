//! What a directory can do that an object store's interface does not have: locks, and writing to the disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fs_err as fs;

use crate::ServerError;

/// A repository's directory.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// A lock that is held; it goes with its holder.
pub(crate) type Flock = File;

impl Directory {
    /// Opens the directory, making it where there is none.
    pub(super) fn open(root: PathBuf) -> Result<Self, ServerError> {
        fs::create_dir_all(&root).map_err(|error| ServerError::io("make", &root, error))?;
        let root = fs::canonicalize(&root).map_err(|error| ServerError::io("find", &root, error))?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) async fn replace(
        self: &Arc<Self>,
        path: &str,
        before: Option<blake3::Hash>,
        bytes: Bytes,
    ) -> Result<bool, ServerError> {
        let (this, path) = (self.clone(), self.root.join(path));
        blocking(move || {
            let _lock = this.lock("lock", true)?;
            let now = match fs::read(&path) {
                Ok(now) => Some(blake3::hash(&now)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(ServerError::io("read", &path, error)),
            };
            if now != before {
                return Ok(false);
            }
            write_whole(&path, &bytes).map_err(|error| ServerError::io("write", &path, error))?;
            Ok(true)
        })
        .await
    }

    pub(super) async fn sync(&self) -> Result<(), ServerError> {
        let root = self.root.clone();
        blocking(move || {
            let directory = File::open(&root).map_err(|error| ServerError::io("open", &root, error))?;
            rustix::fs::syncfs(directory).map_err(|error| ServerError::io("sync", root, error.into()))
        })
        .await
    }

    pub(super) async fn hold(self: &Arc<Self>, alone: bool) -> Result<Flock, ServerError> {
        let this = self.clone();
        blocking(move || this.lock("gc.lock", alone)).await
    }

    /// Waits for a lock.
    fn lock(&self, name: &str, alone: bool) -> Result<Flock, ServerError> {
        let path = self.root.join(name);
        let taken = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|file| if alone { file.lock() } else { file.lock_shared() }.map(|()| file));
        taken.map_err(|error| ServerError::io("lock", path, error))
    }

    /// Removes files that writers left before their renaming: `name#1` by the object store's client, `.tmp…` by ours.
    pub(super) async fn sweep_staged(&self, grace: Duration) -> Result<(), ServerError> {
        let root = self.root.clone();
        blocking(move || {
            let limit = SystemTime::now() - grace;
            let mut open = vec![root];
            while let Some(directory) = open.pop() {
                let entries = match fs::read_dir(&directory) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(ServerError::io("read", directory, error)),
                };
                for entry in entries.flatten() {
                    let Ok(metadata) = entry.metadata() else { continue };
                    if metadata.is_dir() {
                        open.push(entry.path());
                        continue;
                    }
                    let name = entry.file_name();
                    let staged =
                        name.to_string_lossy().contains('#') || name.to_string_lossy().starts_with(".tmp");
                    if staged && metadata.modified().is_ok_and(|modified| modified < limit) {
                        // Another server may have been faster.
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
            Ok(())
        })
        .await
    }
}

/// Writes a file so that it is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let mut file = tempfile::Builder::new().prefix(".tmp").tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(parent)?.sync_all()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
