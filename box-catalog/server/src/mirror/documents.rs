//! Documents: given out as they are while they are fresh, asked for again when they are not.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::upstream::Answer;
use super::{DOWN, Failed, Found, How, Mirror, MirrorDocument, Via, parse};
use crate::names::BoxName;
use crate::refusal::Refusal;
use crate::repository::no_box;
use crate::{Repository, ServerError};

impl Mirror {
    /// The document of a box, as current as it has to be.
    pub(crate) async fn document(
        &self,
        repository: &Repository,
        name: &BoxName,
        via: &Via,
    ) -> Result<Found, Refusal> {
        let via_told = via.through(&self.pseudonym)?;
        if let Some(document) = self.fresh(repository, name).await? {
            return Ok(self.found(document, How::Hit));
        }
        // What another mirror asks does not wait: it may be what it waits for itself.
        let lock = self.lock(name);
        let _asking = if via.is_direct() { Some(lock.lock().await) } else { None };
        if let Some(document) = self.fresh(repository, name).await? {
            return Ok(self.found(document, How::Hit));
        }
        let before = self.stored(repository, name).await?;
        if let (Some(before), Some(why)) = (&before, self.down.why()) {
            return Ok(self.found(before.clone(), How::Stale(why.message)));
        }
        let began = Instant::now();
        match self.refresh(repository, name, before.as_ref(), via_told).await {
            Ok(document) if document.versions.is_empty() => Err(no_box(name)),
            Ok(document) => Ok(self.found(document, How::Miss)),
            Err(failed) => {
                self.figures.failed();
                match before.filter(|_| failed.passing) {
                    Some(before) => {
                        self.down.failed(began, &failed, self.settings.fresh, DOWN);
                        Ok(self.found(before, How::Stale(failed.message)))
                    }
                    None => Err(failed.into()),
                }
            }
        }
    }

    /// What is known of a box, however old; upstream is asked where nothing is.
    pub(crate) async fn any_document(
        &self,
        repository: &Repository,
        name: &BoxName,
        via: &Via,
    ) -> Result<MirrorDocument, Refusal> {
        via.through(&self.pseudonym)?;
        match self.stored(repository, name).await? {
            Some(document) => Ok(document),
            None => Ok(self.document(repository, name, via).await?.document),
        }
    }

    fn found(&self, document: MirrorDocument, how: How) -> Found {
        self.figures.document(&how);
        Found { document, how }
    }

    pub(super) async fn stored(
        &self,
        repository: &Repository,
        name: &BoxName,
    ) -> Result<Option<MirrorDocument>, ServerError> {
        let stored = repository.mirrored(name).await?;
        Ok(stored.filter(|document| document.upstream == self.upstream.url && !document.versions.is_empty()))
    }

    async fn fresh(
        &self,
        repository: &Repository,
        name: &BoxName,
    ) -> Result<Option<MirrorDocument>, ServerError> {
        let stored = self.stored(repository, name).await?;
        Ok(stored.filter(|document| self.is_fresh(document.checked)))
    }

    pub(super) fn is_fresh(&self, checked: DateTime<Utc>) -> bool {
        // A clock that was set back makes nothing fresh.
        (Utc::now() - checked).to_std().is_ok_and(|age| age < self.settings.fresh)
    }

    fn lock(&self, name: &BoxName) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = asking.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        asking.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Asks upstream, and keeps what it says.
    async fn refresh(
        &self,
        repository: &Repository,
        name: &BoxName,
        before: Option<&MirrorDocument>,
        via: String,
    ) -> Result<MirrorDocument, Failed> {
        let etag = before.and_then(|before| before.etag.as_deref());
        let now = Utc::now();
        let answer = self.upstream.document(name, etag, via).await?;
        self.down.answered();
        let url = &self.upstream.url;
        let fetched = match answer {
            Answer::Same => None,
            Answer::Gone if before.is_none() => return Err(self.gone(name)),
            Answer::Gone => Some(MirrorDocument::without_versions_of(name.clone(), url.clone(), now)),
            Answer::Document { bytes, etag, from } => {
                let parsed = parse::parse(&bytes, name, url, &from, now);
                let parsed =
                    parsed.map_err(|why| Failed::passing(format!("`{}`: {why}", posada_fetch::shown(&from))));
                Some(MirrorDocument { etag, ..parsed? })
            }
        };
        let kept = repository.change_mirrored(name, |before| match (&fetched, before) {
            (Some(fetched), before) => {
                let mut after = fetched.clone();
                if let Some(before) = before {
                    after.follow(before);
                }
                Some(after)
            }
            (None, before) => before.map(|before| MirrorDocument { checked: now, ..before }),
        });
        kept.await?.ok_or_else(|| Failed::passing("what was known of it went away just now"))
    }

    fn gone(&self, name: &BoxName) -> Failed {
        Failed::not_found(format!("there is no box {name}, and none at {}", self.host()))
    }
}
