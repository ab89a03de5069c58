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
mod documents;
mod down;
mod figures;
mod keep;
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

use posada_fetch::{Client, FetchError, Slot, Stop};
use tokio::sync::{Semaphore, watch};
use url::Url;

use crate::ServerError;
use crate::http::Log;
use crate::names::{BoxName, Part, VersionName};

pub(crate) use catalog::of_box;
pub(crate) use document::{Kept, MirrorDocument, MirrorFile, MirrorVersion};
pub(crate) use figures::Figures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use parse::parse;
pub(crate) use reach::Begun;
pub use settings::MirrorSettings;
pub(crate) use upstream::Failed;
pub(crate) use via::Via;

use down::Down;
use upstream::Upstream;
use via::Pseudonym;

/// How many files are fetched at once; further ones wait.
const AT_ONCE: usize = 8;
/// How long an upstream that could not be reached is not asked for what is here, nor again for a file that is wrong.
const DOWN: Duration = Duration::from_secs(30);

/// Which file of which box.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub name: BoxName,
    pub version: VersionName,
    pub provider: Part,
    pub architecture: Part,
}

/// Which content of a file: its checksum, or where it is.
type Content = (Place, String);

/// A mirror at work.
pub(crate) struct Mirror {
    settings: MirrorSettings,
    upstream: Upstream,
    pseudonym: Pseudonym,
    log: Arc<dyn Log>,
    pub(crate) figures: Figures,
    /// Who asks for which document: the others wait for the answer.
    asking: Mutex<HashMap<BoxName, Weak<tokio::sync::Mutex<()>>>>,
    transfers: Mutex<HashMap<Content, transfer::Transfer>>,
    /// Files that did not come and would not now, either.
    refused: Mutex<HashMap<Content, (Instant, Failed)>>,
    turns: Arc<Semaphore>,
    down: Down,
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
            refused: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            down: Down::default(),
            stop: Stop::default(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// From whom it has its boxes, for people.
    pub(crate) fn host(&self) -> String {
        host(&self.upstream.url)
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

    fn transfers(&self) -> MutexGuard<'_, HashMap<Content, transfer::Transfer>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it is remembered what did not come.
    fn memory(&self) -> Duration {
        DOWN.min(self.settings.fresh)
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<Content, (Instant, Failed)>> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, (since, _)| since.elapsed() < self.memory());
        refused
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
