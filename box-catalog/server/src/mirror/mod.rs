//! A mirror: boxes of another catalog, fetched when they are first asked for, and kept.
//!
//! ```text
//!  catalog      fresh? ──yes──► as it was
//!                 │no
//!                 ▼            304: current again     200: taken, and what is here of it kept
//!              upstream ─────► 404: it is gone        else: as it was, told to be stale
//!
//!  file         here? ──yes──► from the repository
//!                 │no
//!                 ▼
//!              a transfer, one for all who ask ──► part ──► (checksum) ──► repository
//!                                                   │
//!                                                   └► clients, all but the last byte before the checksum
//! ```
//! Which documents and files are here is told by `mirror/<ns>/<name>.json` in the storage. What is being fetched lies in a
//! directory of its own, from where the next transfer of the same file goes on.

mod catalog;
mod document;
mod figures;
mod parse;
mod reach;
mod settings;
mod transfer;
mod upstream;
mod via;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use posada_fetch::{Client, FetchError, Slot, Stop};
use tokio::sync::{Semaphore, watch};
use url::Url;

use crate::http::Log;
use crate::names::{BoxName, Part, VersionName};
use crate::refusal::Refusal;
use crate::repository::no_box;
use crate::{Repository, ServerError, Sha256};

pub(crate) use catalog::of_box;
pub(crate) use document::{Kept, MirrorDocument, MirrorFile, MirrorVersion};
pub(crate) use figures::Figures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use parse::parse;
pub(crate) use reach::Begun;
pub use settings::MirrorSettings;
pub(crate) use upstream::Failed;
pub(crate) use via::Via;

use upstream::{Answer, Upstream};
use via::Pseudonym;

/// How many files are fetched at once; further ones wait.
const AT_ONCE: usize = 8;
/// How long an upstream that could not be reached is not asked for what is here.
const DOWN: Duration = Duration::from_secs(30);
/// How exactly it is known when a file was last wanted.
const ASKED: TimeDelta = TimeDelta::hours(1);

/// Which file of which box.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub name: BoxName,
    pub version: VersionName,
    pub provider: Part,
    pub architecture: Part,
}

/// A mirror at work.
pub(crate) struct Mirror {
    settings: MirrorSettings,
    upstream: Upstream,
    pseudonym: Pseudonym,
    log: Arc<dyn Log>,
    pub(crate) figures: Figures,
    /// Who asks for which document: the others wait for the answer.
    asking: Mutex<HashMap<BoxName, Weak<tokio::sync::Mutex<()>>>>,
    transfers: Mutex<HashMap<Place, transfer::Transfer>>,
    turns: Arc<Semaphore>,
    /// Since when, and why, upstream cannot be reached.
    down: Mutex<Option<(Instant, Failed)>>,
    stop: Stop,
    stopping: watch::Sender<bool>,
}

/// A document, and how it was come by.
pub(crate) struct Found {
    pub document: MirrorDocument,
    pub how: How,
}

/// How something was come by.
#[derive(Debug, Clone)]
pub(crate) enum How {
    /// It was here.
    Hit,
    /// Upstream was asked.
    Miss,
    /// It was here; upstream could not be asked whether it is current.
    Stale(String),
}

impl How {
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale(_) => "stale",
        }
    }
}

impl Mirror {
    pub(crate) fn new(settings: MirrorSettings, log: Arc<dyn Log>) -> Result<Arc<Self>, ServerError> {
        let upstream = Upstream::new(settings.upstream.clone(), settings.client.clone())?;
        Ok(Arc::new(Self {
            settings,
            upstream,
            pseudonym: Pseudonym::new()?,
            log,
            figures: Figures::default(),
            asking: Mutex::default(),
            transfers: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            down: Mutex::default(),
            stop: Stop::default(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// From whom it has its boxes, for people.
    pub(crate) fn host(&self) -> String {
        host(&self.upstream.url)
    }

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
        if let (Some(before), Some(why)) = (&before, self.is_down()) {
            return Ok(self.found(before.clone(), How::Stale(why.message)));
        }
        match self.refresh(repository, name, before.as_ref(), via_told).await {
            Ok(document) if document.versions.is_empty() => Err(no_box(name)),
            Ok(document) => Ok(self.found(document, How::Miss)),
            Err(failed) => {
                self.figures.failed();
                match before.filter(|_| failed.passing) {
                    Some(before) => {
                        *self.down.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some((Instant::now(), failed.clone()));
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

    async fn stored(
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

    fn is_fresh(&self, checked: DateTime<Utc>) -> bool {
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

    fn is_down(&self) -> Option<Failed> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = DOWN.min(self.settings.fresh);
        down.as_ref().filter(|(since, _)| since.elapsed() < wait).map(|(_, why)| why.clone())
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
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
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

    /// Whether a file that is here is what its catalog offers now.
    pub(crate) async fn is_current(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: &Kept,
    ) -> bool {
        if file.checksum.is_some() || kept.validator.is_none() || self.is_fresh(kept.checked) {
            return true;
        }
        match self.upstream.head(&file.url).await {
            Ok((Some(validator), _)) if Some(&validator) != kept.validator.as_ref() => false,
            Ok((Some(_), _)) => {
                let kept = Kept { checked: Utc::now(), ..kept.clone() };
                self.write_kept(repository, place, file, kept, None).await;
                true
            }
            // Nobody can tell: an office whose line is down goes on with what it has.
            Ok((None, _)) | Err(_) => true,
        }
    }

    /// How large a file is that is not here.
    pub(crate) async fn size_of(&self, file: &MirrorFile) -> Result<Option<u64>, Failed> {
        match file.size {
            Some(size) => Ok(Some(size)),
            None => Ok(self.upstream.head(&file.url).await?.1),
        }
    }

    /// Somebody wants a file that is here.
    pub(crate) async fn asked(&self, repository: &Repository, place: &Place, file: &MirrorFile, kept: &Kept) {
        self.figures.hit();
        let now = Utc::now();
        if now - kept.asked >= ASKED {
            self.write_kept(repository, place, file, Kept { asked: now, ..kept.clone() }, None).await;
        }
    }

    /// The signature of a file, where there is one.
    pub(crate) async fn signature(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
    ) -> Result<String, Refusal> {
        let known = file.signature.clone().or_else(|| file.beside.clone());
        let found = match known {
            Some(known) => Some(known),
            None => {
                let found = self.upstream.signature(&file.url).await?;
                if let (Some(found), Some(kept)) = (&found, &file.kept) {
                    self.write_kept(repository, place, file, kept.clone(), Some(found.clone())).await;
                }
                found
            }
        };
        found.ok_or_else(|| Refusal::not_found("this file is not signed"))
    }

    /// Writes down that a file is here.
    async fn keep(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        size: u64,
        sha256: Sha256,
        validator: Option<String>,
    ) -> Result<(), Failed> {
        // Without it the file is as good; who wants it asks for it then.
        let beside = match file.signature {
            Some(_) => None,
            None => self.upstream.signature(&file.url).await.ok().flatten(),
        };
        let now = Utc::now();
        let kept = Kept { sha256, size, validator, checked: now, asked: now };
        self.change_kept(repository, place, file, kept, beside).await
    }

    /// The same, where it is no harm when it does not come about.
    async fn write_kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: Kept,
        beside: Option<String>,
    ) {
        if let Err(failed) = self.change_kept(repository, place, file, kept, beside).await {
            self.note(&format!("what is known of {place} is not written down: {}", failed.message));
        }
    }

    async fn change_kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: Kept,
        beside: Option<String>,
    ) -> Result<(), Failed> {
        let change = |before: Option<MirrorDocument>| {
            let mut document = before?;
            let there = document.file_mut(&place.version, &place.provider, &place.architecture)?;
            // Another file by now: this one is nobody's.
            if !there.is_same_content(file) {
                return None;
            }
            let old = there.kept.replace(kept.clone());
            if beside.is_some() {
                there.beside.clone_from(&beside);
            }
            if let Some(old) = old.filter(|old| old.sha256 != kept.sha256) {
                document.drop_file(old.sha256, kept.checked);
            }
            Some(document)
        };
        repository.change_mirrored(&place.name, change).await?;
        Ok(())
    }

    /// What another server has made of a file since `file` was read.
    async fn kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
    ) -> Result<Option<Kept>, Failed> {
        let Some(document) = self.stored(repository, &place.name).await? else { return Ok(None) };
        let now = document.file(&place.version, &place.provider, &place.architecture);
        let kept = now.filter(|now| now.is_same_content(file)).and_then(|now| now.kept.clone());
        let seen = file.kept.as_ref();
        let is_new = |kept: &Kept| {
            seen.is_none_or(|seen| (seen.sha256, &seen.validator) != (kept.sha256, &kept.validator))
        };
        Ok(kept.filter(is_new))
    }

    /// The place where a file is fetched to.
    async fn slot(&self, key: &str, anew: bool) -> Result<Slot, Failed> {
        let key = Url::parse(&format!("mirror:{key}")).map_err(|error| Failed::own(error.to_string()))?;
        let parts = self.settings.parts.clone();
        self.blocking(move |client, stop| {
            let slot = Slot::open(client, &parts, &key, &|| {}, stop)?;
            if !anew {
                return Ok(slot);
            }
            slot.clear()?;
            Slot::open(client, &parts, &key, &|| {}, stop)
        })
        .await
    }

    /// Lets go of what was begun and never gone on with.
    pub(crate) async fn sweep(&self) {
        let parts = self.settings.parts.clone();
        let idle = self.settings.idle();
        if let Err(failed) = self.blocking(move |_, _| Slot::sweep(&parts, idle)).await {
            self.note(&format!("what was begun to be fetched cannot be let go: {}", failed.message));
        }
    }

    /// What is kept, and for how long.
    pub(crate) const fn settings(&self) -> &MirrorSettings {
        &self.settings
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Client, &Stop) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, Failed> {
        let (client, stop) = (self.upstream.client(), self.stop.clone());
        match tokio::task::spawn_blocking(move || work(&client, &stop)).await {
            Ok(done) => Ok(done?),
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    fn transfers(&self) -> MutexGuard<'_, HashMap<Place, transfer::Transfer>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, text: &str) {
        self.log.note(text);
    }

    /// Ends all transfers; what came of them is kept for the next time.
    pub(crate) async fn end(&self) {
        self.stop.stop();
        self.stopping.send_replace(true);
        // All turns are free once all have ended. Never closed.
        let _ = self.turns.acquire_many(AT_ONCE as u32).await;
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, provider, architecture } = self;
        write!(f, "{name} {version} for {provider} on {architecture}")
    }
}

/// A catalog's host, for people.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
