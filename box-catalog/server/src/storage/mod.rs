//! Where a repository lies: a directory, or a bucket of an object store.
//!
//! ```text
//! repository.json            which kind of repository this is
//! boxes/<ns>/<name>/box.json a box with all its versions; replaced as a whole, never by two at once
//! manifests/<xx>/<sha256>    a file: which chunks it is made of
//! chunks/<xx>/<blake3>       a chunk, compressed by zstd
//! mirror/<ns>/<name>.json    a box of another catalog, and which of its files are here
//! tokens.json                who may do what; tokens as digests only
//! lock, gc.lock              directories only: held (flock) while a document is replaced; while chunks are counted on
//! mirror-parts/              directories only: files of other catalogs that are being fetched
//! ```
//! Chunks and manifests are named by their content and written once. Documents are replaced by compare-and-swap: in
//! a directory under the lock, in a bucket by conditional requests (`If-Match`, `If-None-Match`).

mod directory;
mod open;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::ServerError;
pub use open::Location;

use directory::{Directory, Flock};

/// How often a document is read again because another writer was faster.
const MAX_ATTEMPTS: u32 = 200;

/// Where a repository lies. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Storage {
    objects: Arc<dyn ObjectStore>,
    /// What stands before each path in a bucket.
    prefix: Path,
    directory: Option<Arc<Directory>>,
    in_use: Arc<RwLock<()>>,
}

/// An object there is.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Its path in the repository.
    pub path: String,
    /// When it was written.
    pub modified: DateTime<Utc>,
    /// Bytes.
    pub size: u64,
}

/// What keeps chunks and manifests from being removed, or others from counting on them.
#[derive(Debug)]
#[allow(dead_code, reason = "held for what their dropping does")]
pub(crate) enum Hold {
    /// They stay.
    Shared(OwnedRwLockReadGuard<()>, Option<Flock>),
    /// They may be removed.
    Exclusive(OwnedRwLockWriteGuard<()>, Option<Flock>),
}

/// Which state of a document was read.
#[derive(Debug, Clone)]
enum Revision {
    Content(blake3::Hash),
    Object(UpdateVersion),
}

impl Storage {
    fn path(&self, path: &str) -> Path {
        self.prefix.parts().chain(Path::from(path).parts()).collect()
    }

    fn failed(what: &str, path: &str) -> impl FnOnce(object_store::Error) -> ServerError {
        let what = format!("{what} {path}");
        move |error| ServerError::storage(what, error)
    }

    /// A whole object, where it is there.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Bytes>, ServerError> {
        Ok(self.read_revision(path).await?.map(|(bytes, _)| bytes))
    }

    async fn read_revision(&self, path: &str) -> Result<Option<(Bytes, UpdateVersion)>, ServerError> {
        let found = match self.objects.get(&self.path(path)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Self::failed("read", path)(error)),
        };
        let revision = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some((found.bytes().await.map_err(Self::failed("read", path))?, revision)))
    }

    /// Writes an object that is named by its content.
    pub(crate) async fn write(&self, path: &str, bytes: Bytes) -> Result<(), ServerError> {
        self.objects.put(&self.path(path), bytes.into()).await.map_err(Self::failed("write", path))?;
        Ok(())
    }

    /// What is known of an object, where it is there.
    pub(crate) async fn look(&self, path: &str) -> Result<Option<Object>, ServerError> {
        match self.objects.head(&self.path(path)).await {
            Ok(meta) => {
                Ok(Some(Object { path: path.to_owned(), modified: meta.last_modified, size: meta.size }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Self::failed("look at", path)(error)),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), ServerError> {
        match self.objects.delete(&self.path(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Self::failed("remove", path)(error)),
        }
    }

    /// All objects below `path`.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Object>, ServerError> {
        let under = self.path(path);
        let skip = self.prefix.parts().count();
        let found = self.objects.list(Some(&under)).map(|meta| {
            meta.map(|meta| {
                let path = meta.location.parts().skip(skip).collect::<Path>().to_string();
                Object { path, modified: meta.last_modified, size: meta.size }
            })
        });
        let mut all: Vec<Object> = found.try_collect().await.map_err(Self::failed("list", path))?;
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// A JSON document, where it is there.
    pub(crate) async fn document<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ServerError> {
        self.read(path).await?.map(|bytes| parse(path, &bytes)).transpose()
    }

    /// Replaces a JSON document by what `change` makes of it; what is between reading and writing is seen by nobody
    /// else. `change` may be called again, with what another writer left.
    pub(crate) async fn change<T, R, E>(
        &self,
        path: &str,
        mut change: impl FnMut(Option<T>) -> Result<Changed<T, R>, E>,
    ) -> Result<R, E>
    where
        T: DeserializeOwned + Serialize,
        E: From<ServerError>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.revision(path).await?;
            let (bytes, revision) =
                before.map_or((None, None), |(bytes, revision)| (Some(bytes), Some(revision)));
            let document = bytes.map(|bytes| parse(path, &bytes)).transpose()?;
            let (after, result) = match change(document)? {
                Changed::Kept(result) => return Ok(result),
                Changed::To(after, result) => (after, result),
            };
            let text =
                serde_json::to_vec_pretty(&after).map_err(|error| ServerError::damaged(path, error))?;
            if self.replace(path, revision, text.into()).await? {
                return Ok(result);
            }
        }
        Err(ServerError::Contended(path.to_owned()).into())
    }

    async fn revision(&self, path: &str) -> Result<Option<(Bytes, Revision)>, ServerError> {
        Ok(self.read_revision(path).await?.map(|(bytes, version)| {
            let revision = match self.directory {
                Some(_) => Revision::Content(blake3::hash(&bytes)),
                None => Revision::Object(version),
            };
            (bytes, revision)
        }))
    }

    /// Writes `bytes` where nothing else was written since `before`.
    async fn replace(&self, path: &str, before: Option<Revision>, bytes: Bytes) -> Result<bool, ServerError> {
        if let Some(directory) = &self.directory {
            let before = match before {
                Some(Revision::Content(hash)) => Some(hash),
                _ => None,
            };
            return directory.replace(path, before, bytes).await;
        }
        let mode = match before {
            Some(Revision::Object(version)) => PutMode::Update(version),
            _ => PutMode::Create,
        };
        let options = PutOptions::from(mode);
        match self.objects.put_opts(&self.path(path), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(Self::failed("replace", path)(error)),
        }
    }

    /// All that was written is safe from a power cut after this.
    pub(crate) async fn sync(&self) -> Result<(), ServerError> {
        match &self.directory {
            Some(directory) => directory.sync().await,
            None => Ok(()),
        }
    }

    /// Removes what a crash left half written; what was written within `grace` stays.
    pub(crate) async fn sweep_staged(&self, grace: std::time::Duration) -> Result<(), ServerError> {
        match &self.directory {
            Some(directory) => directory.sweep_staged(grace).await,
            None => Ok(()),
        }
    }

    /// Keeps chunks and manifests from being removed.
    pub(crate) async fn hold(&self) -> Result<Hold, ServerError> {
        let guard = self.in_use.clone().read_owned().await;
        let lock = match &self.directory {
            Some(directory) => Some(directory.hold(false).await?),
            None => None,
        };
        Ok(Hold::Shared(guard, lock))
    }

    /// Waits until nobody counts on chunks being there, and lets nobody begin.
    pub(crate) async fn hold_alone(&self) -> Result<Hold, ServerError> {
        let guard = self.in_use.clone().write_owned().await;
        let lock = match &self.directory {
            Some(directory) => Some(directory.hold(true).await?),
            None => None,
        };
        Ok(Hold::Exclusive(guard, lock))
    }
}

/// What a change of a document comes to.
pub(crate) enum Changed<T, R> {
    /// Nothing is written.
    Kept(R),
    /// This is written.
    To(T, R),
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ServerError> {
    serde_json::from_slice(bytes).map_err(|error| ServerError::damaged(path, error))
}

#[cfg(test)]
mod tests {
    use posada_tests::buckets::Buckets;

    use super::*;

    /// Adds `name` to a list, once what `meanwhile` does is done.
    async fn add(storage: &Storage, name: &str, mut meanwhile: impl FnMut()) -> Result<(), ServerError> {
        storage
            .change("list.json", |list: Option<Vec<String>>| {
                meanwhile();
                let mut list = list.unwrap_or_default();
                list.push(name.to_owned());
                Ok(Changed::To(list, ()))
            })
            .await
    }

    /// What a second writer does while a first one has read and not written.
    async fn interleave(location: &Location) {
        let storage = Storage::open(location).await.unwrap();
        for (first, second) in [("a", "b"), ("c", "d")] {
            let mut calls = 0;
            let meanwhile = || {
                calls += 1;
                if calls == 1 {
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            let runtime = tokio::runtime::Runtime::new().unwrap();
                            runtime.block_on(async {
                                let other = Storage::open(location).await.unwrap();
                                add(&other, second, || ()).await.unwrap();
                            });
                        });
                    });
                }
            };
            add(&storage, first, meanwhile).await.unwrap();
            assert_eq!(calls, 2, "it was read again");
        }
        let list: Vec<String> = storage.document("list.json").await.unwrap().unwrap();
        assert_eq!(list, ["b", "a", "d", "c"]);
    }

    #[tokio::test]
    async fn what_another_writer_did_meanwhile_is_not_lost() {
        let temp = tempfile::tempdir().unwrap();
        let buckets = Buckets::start(temp.path());
        interleave(&Location::parse("s3://boxes/list", buckets.options()).unwrap()).await;
        interleave(&Location::Directory(temp.path().join("directory"))).await;
    }
}
