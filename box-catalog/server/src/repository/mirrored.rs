//! Boxes of another catalog, and which of their files are here.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::Repository;
use super::gc::days_before;
use crate::ServerError;
use crate::digest::Sha256;
use crate::mirror::MirrorDocument;
use crate::names::BoxName;
use crate::storage::Changed;

/// How many documents are read at once.
const AT_ONCE: usize = 16;

impl Repository {
    /// What is known of a box of another catalog.
    pub(crate) async fn mirrored(&self, name: &BoxName) -> Result<Option<MirrorDocument>, ServerError> {
        self.storage().document(&path(name)).await
    }

    /// All of them, by name.
    pub(crate) async fn all_mirrored(&self) -> Result<Vec<MirrorDocument>, ServerError> {
        let objects = self.storage().list("mirror").await?;
        let names: Vec<BoxName> = objects.iter().filter_map(|object| at(&object.path)).collect();
        let found = futures_util::stream::iter(names)
            .map(|name| async move { self.mirrored(&name).await })
            .buffered(AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) });
        found.try_collect().await
    }

    /// Changes what is known; where `change` gives nothing, it stays as it is. What is known then.
    pub(crate) async fn change_mirrored(
        &self,
        name: &BoxName,
        mut change: impl FnMut(Option<MirrorDocument>) -> Option<MirrorDocument>,
    ) -> Result<Option<MirrorDocument>, ServerError> {
        self.storage()
            .change(&path(name), |before: Option<MirrorDocument>| {
                Ok(match change(before.clone()) {
                    Some(after) if before.as_ref() != Some(&after) => Changed::To(after.clone(), Some(after)),
                    same => Changed::Kept(same.or(before)),
                })
            })
            .await
    }

    /// Lets go of files that nobody asked for since `keep` days, and then of those that were asked for the longest ago until
    /// `size` bytes are left; how many those are. Documents go with the last of their files. Room is made by the next
    /// [`Repository::collect`] after its grace.
    ///
    /// # Errors
    /// Those of the storage; what was let go until then is gone.
    pub async fn expire_mirrored(
        &self,
        now: DateTime<Utc>,
        keep: Option<u32>,
        size: Option<u64>,
    ) -> Result<usize, ServerError> {
        let limit = keep.map(|days| days_before(now, days));
        let documents = self.all_mirrored().await?;
        let mut files: Vec<_> = documents
            .iter()
            .flat_map(|document| {
                document.kept().map(|kept| (kept.asked, kept.sha256, kept.size, &document.name))
            })
            .collect();
        // Those that were asked for last first.
        files.sort_by(|a, b| b.cmp(a));
        let (mut sum, mut gone) = (0_u64, Vec::new());
        for (asked, sha256, bytes, name) in files {
            let old = limit.is_some_and(|limit| asked < limit);
            let fits = size.is_none_or(|size| sum.saturating_add(bytes) <= size);
            if old || !fits {
                gone.push((name, sha256));
            } else {
                sum += bytes;
            }
        }
        for (name, sha256) in &gone {
            self.let_go(name, *sha256, now).await?;
        }
        for document in documents.iter().filter(|document| document.dropped.is_empty()) {
            let unwanted = limit.is_some_and(|limit| document.checked < limit);
            if unwanted && document.kept().next().is_none() {
                // Where somebody asks for it just now, upstream is asked again.
                self.storage().remove(&path(&document.name)).await?;
            }
        }
        Ok(gone.len())
    }

    async fn let_go(&self, name: &BoxName, sha256: Sha256, now: DateTime<Utc>) -> Result<(), ServerError> {
        let change = |document: Option<MirrorDocument>| {
            let mut document = document?;
            let files = document.versions.iter_mut().flat_map(|version| &mut version.files);
            let kept = files.filter(|file| file.kept.as_ref().is_some_and(|kept| kept.sha256 == sha256));
            kept.for_each(|file| file.kept = None);
            document.drop_file(sha256, now);
            Some(document)
        };
        self.change_mirrored(name, change).await?;
        Ok(())
    }

    /// The files that these boxes name, or named not long ago.
    pub(super) async fn named_by_mirrored(&self, limit: DateTime<Utc>) -> Result<Vec<Sha256>, ServerError> {
        let mut named = Vec::new();
        for document in self.all_mirrored().await? {
            let prune = |before: Option<MirrorDocument>| {
                let mut document = before?;
                document.dropped.retain(|dropped| dropped.at > limit);
                Some(document)
            };
            // Where it goes away meanwhile, it names what it named.
            let document = self.change_mirrored(&document.name, prune).await?.unwrap_or(document);
            named.extend(document.kept().map(|kept| kept.sha256));
            named.extend(document.dropped.iter().map(|dropped| dropped.sha256));
        }
        Ok(named)
    }
}

fn path(name: &BoxName) -> String {
    format!("mirror/{name}.json")
}

/// The box whose document lies at `path`.
fn at(path: &str) -> Option<BoxName> {
    BoxName::parse(path.strip_prefix("mirror/")?.strip_suffix(".json")?).ok()
}
