//! Boxes and their versions.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Repository, Retention};
use crate::ServerError;
use crate::document::{BoxDocument, FileEntry, State};
use crate::names::{BoxName, Part, VersionName};
use crate::refusal::Refusal;
use crate::storage::Changed;

/// How many documents are read at once.
const AT_ONCE: usize = 16;
/// The longest description, bytes.
const MAX_DESCRIPTION: usize = 64 << 10;

impl Repository {
    /// A box, where there is one.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn find(&self, name: &BoxName) -> Result<Option<BoxDocument>, ServerError> {
        self.storage().document(&path(name)).await
    }

    /// All boxes, by name.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn boxes(&self) -> Result<Vec<BoxDocument>, ServerError> {
        let names: Vec<BoxName> =
            self.storage().list("boxes").await?.iter().filter_map(|object| at(&object.path)).collect();
        let found = futures_util::stream::iter(names)
            .map(|name| async move { self.find(&name).await })
            .buffered(AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) });
        let mut boxes: Vec<BoxDocument> = found.try_collect().await?;
        boxes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(boxes)
    }

    /// Takes a file into an open version; the version is made where there is none, and so is the box.
    pub(crate) async fn add_file(
        &self,
        name: &BoxName,
        version: &VersionName,
        file: FileEntry,
    ) -> Result<BoxDocument, Refusal> {
        self.storage()
            .change(&path(name), |before: Option<BoxDocument>| {
                let mut document = before.clone().unwrap_or_else(|| BoxDocument::new(name.clone()));
                if document.put_file(version, file.clone()).is_none() {
                    return Err(Refusal::conflict(format!("version {version} of {name} has been released"))
                        .hint("a released version never changes: push under a new version"));
                }
                let same = before.as_ref() == Some(&document);
                Ok(if same { Changed::Kept(document) } else { Changed::To(document.clone(), document) })
            })
            .await
    }

    /// Releases a version; one that was released before stays as it is.
    pub(crate) async fn release(
        &self,
        name: &BoxName,
        version: &VersionName,
        now: DateTime<Utc>,
        retention: &Retention,
    ) -> Result<BoxDocument, Refusal> {
        self.change_version(name, version, |document| {
            let Some(there) = document.version_mut(version) else { return Ok(()) };
            match there.state {
                State::Released => {}
                State::Yanked => {
                    return Err(Refusal::conflict(format!("version {version} of {name} was yanked"))
                        .hint("`unyank` puts it back"));
                }
                State::Open if there.files.is_empty() => {
                    return Err(Refusal::conflict(format!("version {version} of {name} has no file yet")));
                }
                State::Open => {
                    there.state = State::Released;
                    there.released = Some(now);
                    retention.apply(document, now);
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes a released version out of the catalog, or puts it back.
    pub(crate) async fn set_yanked(
        &self,
        name: &BoxName,
        version: &VersionName,
        yanked: bool,
    ) -> Result<BoxDocument, Refusal> {
        self.change_version(name, version, |document| {
            let Some(there) = document.version_mut(version) else { return Ok(()) };
            if there.state == State::Open {
                return Err(Refusal::conflict(format!("version {version} of {name} was not released yet")));
            }
            there.state = if yanked { State::Yanked } else { State::Released };
            Ok(())
        })
        .await
    }

    /// Keeps the signature of a file in an open version.
    pub(crate) async fn sign(
        &self,
        name: &BoxName,
        version: &VersionName,
        provider: &Part,
        architecture: &Part,
        signature: &str,
    ) -> Result<BoxDocument, Refusal> {
        self.change_version(name, version, |document| {
            let Some(there) = document.version_mut(version) else { return Ok(()) };
            let open = there.state == State::Open;
            let mut files = there.files.iter_mut();
            let file = files.find(|file| (&file.provider, &file.architecture) == (provider, architecture));
            let Some(file) = file else {
                return Err(Refusal::not_found(format!("version {version} of {name} has no such file")));
            };
            if !open && file.signature.as_deref() != Some(signature) {
                return Err(Refusal::conflict(format!("version {version} of {name} has been released"))
                    .hint("a released version never changes: push under a new version"));
            }
            file.signature = Some(signature.to_owned());
            Ok(())
        })
        .await
    }

    /// Drops a version that was not released yet.
    pub(crate) async fn drop_open(
        &self,
        name: &BoxName,
        version: &VersionName,
        now: DateTime<Utc>,
    ) -> Result<BoxDocument, Refusal> {
        self.change_version(name, version, |document| {
            let open = |there: &&mut _| -> bool { matches!(there, crate::document::VersionDocument { state: State::Open, .. }) };
            if document.version_mut(version).filter(open).is_none() {
                return Err(Refusal::conflict(format!("version {version} of {name} has been released"))
                    .hint("a released version can be yanked: nobody finds it then, and who uses it already still can"));
            }
            document.drop_versions(now, |there| there.version == *version);
            Ok(())
        })
        .await
    }

    /// What people are told of a box.
    pub(crate) async fn describe(&self, name: &BoxName, description: &str) -> Result<BoxDocument, Refusal> {
        if description.len() > MAX_DESCRIPTION {
            return Err(Refusal::too_large(format!("a description has at most {MAX_DESCRIPTION} bytes")));
        }
        self.change_box(name, |document| {
            description.clone_into(&mut document.description);
            Ok(())
        })
        .await
    }

    async fn change_version(
        &self,
        name: &BoxName,
        version: &VersionName,
        mut change: impl FnMut(&mut BoxDocument) -> Result<(), Refusal>,
    ) -> Result<BoxDocument, Refusal> {
        self.change_box(name, |document| {
            if document.version(version).is_none() {
                return Err(Refusal::not_found(format!("there is no version {version} of {name}")));
            }
            change(document)
        })
        .await
    }

    pub(super) async fn change_box(
        &self,
        name: &BoxName,
        mut change: impl FnMut(&mut BoxDocument) -> Result<(), Refusal>,
    ) -> Result<BoxDocument, Refusal> {
        self.storage()
            .change(&path(name), |before: Option<BoxDocument>| {
                let before = before.ok_or_else(|| no_box(name))?;
                let mut document = before.clone();
                change(&mut document)?;
                Ok(if before == document {
                    Changed::Kept(document)
                } else {
                    Changed::To(document.clone(), document)
                })
            })
            .await
    }
}

/// The refusal where there is no such box.
pub(crate) fn no_box(name: &BoxName) -> Refusal {
    Refusal::not_found(format!("there is no box {name}"))
}

fn path(name: &BoxName) -> String {
    format!("boxes/{name}/box.json")
}

/// The box whose document lies at `path`.
fn at(path: &str) -> Option<BoxName> {
    BoxName::parse(path.strip_prefix("boxes/")?.strip_suffix("/box.json")?).ok()
}
