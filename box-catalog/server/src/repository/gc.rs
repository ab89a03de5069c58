//! Letting go: versions that retention does not keep, files that no box names, chunks that no file is made of.
//!
//! It runs beside pushes and downloads. What is younger than the grace stays, as a push may be about to name it;
//! a file being fetched stays; and nobody begins to count on a chunk while chunks are being removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{Repository, chunks, files};
use crate::ServerError;
use crate::digest::{ChunkDigest, Sha256};
use crate::document::{BoxDocument, State};

/// How many chunks are removed before others may go on.
const BATCH: usize = 256;

/// No writer takes longer from a file's first byte to its renaming: each is a chunk or a document.
const STAGING: Duration = Duration::from_secs(60 * 60);

/// Which versions stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// So many of the newest, in any case; `None` keeps all that `days` does not let go.
    pub keep: Option<usize>,
    /// Those released within so many days; `None` keeps only by `keep`.
    pub days: Option<u32>,
}

/// What was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Collected {
    /// Versions, by retention.
    pub versions: usize,
    /// Files that no box names.
    pub files: usize,
    /// Chunks that no file is made of.
    pub chunks: usize,
    /// Bytes in these.
    pub bytes: u64,
}

impl Retention {
    /// Takes out of `document` what is not kept; how many versions that are. The newest one in the catalog stays.
    pub(super) fn apply(&self, document: &mut BoxDocument, now: DateTime<Utc>) -> usize {
        if self.keep.is_none() && self.days.is_none() {
            return 0;
        }
        let newest = document.released().next().map(|version| version.version.clone());
        let limit = self.days.map(|days| days_before(now, days));
        let mut rank = 0;
        document.drop_versions(now, |version| {
            let Some(released) = version.released.filter(|_| version.state != State::Open) else {
                return false;
            };
            rank += 1;
            let beyond = rank > self.keep.unwrap_or(1).max(1);
            let old = limit.is_none_or(|limit| released < limit);
            beyond && old && Some(&version.version) != newest.as_ref()
        })
    }
}

/// So many days before `now`; more than there were is the beginning of time.
pub(super) fn days_before(now: DateTime<Utc>, days: u32) -> DateTime<Utc> {
    now.checked_sub_signed(TimeDelta::days(days.into())).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

impl Repository {
    /// Lets go of what is not needed any more.
    ///
    /// # Errors
    /// Those of the storage; what was let go until then is gone.
    pub async fn collect(
        &self,
        now: DateTime<Utc>,
        retention: &Retention,
        grace: Duration,
    ) -> Result<Collected, ServerError> {
        let mut collected = Collected::default();
        let limit = now - TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
        let named = self.retain(now, limit, retention, &mut collected).await?;
        self.collect_files(&named, limit, &mut collected).await?;
        self.collect_chunks(limit, &mut collected).await?;
        self.storage().sweep_staged(grace.max(STAGING)).await?;
        Ok(collected)
    }

    /// Applies retention; the files that boxes name afterwards, or named not long ago.
    async fn retain(
        &self,
        now: DateTime<Utc>,
        limit: DateTime<Utc>,
        retention: &Retention,
        collected: &mut Collected,
    ) -> Result<BTreeSet<Sha256>, ServerError> {
        let mut named = BTreeSet::new();
        for document in self.boxes().await? {
            let mut gone = 0;
            let kept = self
                .change_box(&document.name, |document| {
                    gone = retention.apply(document, now);
                    document.dropped.retain(|dropped| dropped.at > limit);
                    Ok(())
                })
                .await;
            let Ok(kept) = kept else {
                // Nothing is known of it now: what was read of it before stays.
                named.extend(
                    document.versions.iter().flat_map(|version| &version.files).map(|file| file.sha256),
                );
                continue;
            };
            collected.versions += gone;
            named.extend(kept.versions.iter().flat_map(|version| &version.files).map(|file| file.sha256));
            named.extend(kept.dropped.iter().map(|dropped| dropped.sha256));
        }
        named.extend(self.named_by_mirrored(limit).await?);
        Ok(named)
    }

    async fn collect_files(
        &self,
        named: &BTreeSet<Sha256>,
        limit: DateTime<Utc>,
        collected: &mut Collected,
    ) -> Result<(), ServerError> {
        let objects = self.storage().list("manifests").await?;
        let idle = objects.iter().filter(|object| object.modified < limit);
        let unnamed: Vec<_> = idle
            .filter_map(|object| Some((files::at(&object.path)?, &object.path)))
            .filter(|(sha256, _)| !named.contains(sha256))
            .collect();
        for (sha256, path) in unnamed {
            let _alone = self.storage().hold_alone().await?;
            // Pushed again, or asked for, since it was listed.
            let young = self.storage().look(path).await?.is_none_or(|object| object.modified >= limit);
            if young || self.0.leases.is_held(&sha256) {
                continue;
            }
            self.storage().remove(path).await?;
            self.forget(&sha256);
            collected.files += 1;
        }
        Ok(())
    }

    async fn collect_chunks(
        &self,
        limit: DateTime<Utc>,
        collected: &mut Collected,
    ) -> Result<(), ServerError> {
        let (mut seen, mut needed) = (BTreeSet::new(), BTreeSet::new());
        self.mark(&mut seen, &mut needed).await?;
        let objects = self.storage().list("chunks").await?;
        let idle = objects.iter().filter(|object| object.modified < limit);
        let mut candidates: BTreeMap<ChunkDigest, u64> = idle
            .filter_map(|object| Some((chunks::at(&object.path)?, object.size)))
            .filter(|(digest, _)| !needed.contains(digest))
            .collect();
        while !candidates.is_empty() {
            let _alone = self.storage().hold_alone().await?;
            self.mark(&mut seen, &mut needed).await?;
            for _ in 0..BATCH {
                let Some((digest, size)) = candidates.pop_first() else { break };
                if !needed.contains(&digest) {
                    self.storage().remove(&chunks::path(&digest)).await?;
                    collected.chunks += 1;
                    collected.bytes += size;
                }
            }
        }
        Ok(())
    }

    /// Adds what the manifests need that were not seen before.
    async fn mark(
        &self,
        seen: &mut BTreeSet<String>,
        needed: &mut BTreeSet<ChunkDigest>,
    ) -> Result<(), ServerError> {
        for object in self.storage().list("manifests").await? {
            let Some(sha256) = files::at(&object.path).filter(|_| !seen.contains(&object.path)) else {
                continue;
            };
            // A damaged one ends it: nobody knows what it needs.
            if let Some(manifest) = self.manifest_uncached(&sha256).await? {
                needed.extend(manifest.chunks.iter().map(|(digest, _)| *digest));
            }
            seen.insert(object.path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FileEntry;
    use crate::names::{BoxName, Part, VersionName};

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::days(day)
    }

    fn document(released: &[i64]) -> BoxDocument {
        let mut document = BoxDocument::new(BoxName::parse("team/web").unwrap());
        for (number, day) in released.iter().enumerate() {
            let version = VersionName::parse(&format!("{number}")).unwrap();
            let part = |text| Part::parse(text).unwrap();
            let file = FileEntry {
                provider: part("lxc"),
                architecture: part("amd64"),
                size: 1,
                sha256: Sha256([number as u8; 32]),
                added: at(*day),
                signature: None,
            };
            document.put_file(&version, file);
            let there = document.version_mut(&version).unwrap();
            (there.state, there.released) = (State::Released, Some(at(*day)));
        }
        document
    }

    fn left(retention: Retention, mut document: BoxDocument) -> Vec<String> {
        retention.apply(&mut document, at(100));
        document.versions.iter().map(|version| version.version.to_string()).collect()
    }

    #[test]
    fn retention_keeps_by_number_by_age_and_by_both() {
        let days = [10, 50, 90, 99];
        let by = |keep, days| Retention { keep, days };
        assert_eq!(left(by(None, None), document(&days)), ["3", "2", "1", "0"]);
        assert_eq!(left(by(Some(2), None), document(&days)), ["3", "2"]);
        assert_eq!(left(by(None, Some(60)), document(&days)), ["3", "2", "1"]);
        assert_eq!(left(by(Some(3), Some(30)), document(&days)), ["3", "2", "1"]);
        assert_eq!(left(by(Some(1), Some(60)), document(&days)), ["3", "2", "1"]);
        assert_eq!(left(by(Some(0), None), document(&days)), ["3"], "the newest stays");
        assert_eq!(left(by(None, Some(0)), document(&[1])), ["0"], "the newest stays");
        assert_eq!(left(by(None, Some(u32::MAX)), document(&days)).len(), 4, "longer than time");
    }

    #[test]
    fn open_versions_are_none_of_retentions_business() {
        let mut document = document(&[1, 2]);
        document.versions[0].state = State::Open;
        document.versions[0].released = None;
        assert_eq!(left(Retention { keep: Some(1), days: None }, document), ["1", "0"]);
    }
}
