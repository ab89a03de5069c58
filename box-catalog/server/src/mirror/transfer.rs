//! A file on its way from upstream: fetched once for all who want it, and taken into the repository when it is what it was
//! to be. It goes on when all of them have gone away.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream;
use posada_fetch::{Checksum, FetchError, Request};

use super::document::MirrorFile;
use super::reach::{Begun, End, Reach, Told};
use super::{Failed, Mirror, Place};
use crate::Repository;

/// Bytes that are taken into the repository at a time.
const PIECE: usize = 1 << 20;

/// A file on its way. Clones are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Transfer(Arc<Reach>);

impl Transfer {
    /// Waits until it is known how large it is, or that it does not come.
    pub(crate) async fn begun(&self) -> Begun {
        self.0.begun().await
    }

    /// Its bytes as they come.
    pub(crate) fn read(
        self,
        generation: u64,
        first: u64,
        end: Option<u64>,
    ) -> impl Stream<Item = Result<Bytes, Failed>> + Send {
        self.0.read(generation, first, end)
    }
}

impl Mirror {
    /// The transfer of a file, which is begun where it is not under way.
    pub(crate) fn transfer(
        self: &Arc<Self>,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
    ) -> Transfer {
        let key = (place.clone(), file.checksum.clone().unwrap_or_else(|| file.url.to_string()));
        let mut transfers = self.transfers();
        if let Some(transfer) = transfers.get(&key) {
            return transfer.clone();
        }
        let transfer = Transfer(Arc::new(Reach::new(self.figures.bytes.clone())));
        // Clients try again at once: a file that is wrong does not come each time.
        if let Some((_, failed)) = self.refused().get(&key) {
            transfer.0.end(End::Failed(failed.clone()));
            return transfer;
        }
        transfers.insert(key.clone(), transfer.clone());
        let (this, repository) = (self.clone(), repository.clone());
        let (place, file, reach) = (place.clone(), file.clone(), transfer.0.clone());
        tokio::spawn(async move {
            // Never closed.
            let _turn = this.turns.clone().acquire_owned().await;
            let mut stopping = this.stopping.subscribe();
            let carried = tokio::select! {
                carried = this.carry(&repository, &place, &file, &reach) => carried,
                _ = stopping.wait_for(|stopping| *stopping) => Err(FetchError::Cancelled.into()),
            };
            if let Err(failed) = carried.as_ref().map_err(Clone::clone)
                && failed.will_not_pass()
            {
                this.refused().insert(key.clone(), (Instant::now(), failed));
            }
            // First out of the list: who finds it there finds it alive.
            this.transfers().remove(&key);
            match carried {
                Ok(()) => reach.end(End::Kept),
                Err(failed) => {
                    this.figures.failed();
                    this.note(&format!("{place} is not mirrored: {}", failed.message));
                    reach.end(End::Failed(failed));
                }
            }
        });
        transfer
    }

    /// Carries a file from upstream into the repository.
    async fn carry(
        self: &Arc<Self>,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        reach: &Arc<Reach>,
    ) -> Result<(), Failed> {
        if let Some(sha256) = file.promised()
            && let Some(there) = repository.open_file(&sha256).await?
        {
            // Pushed, or mirrored under another name: it is what was promised.
            return self.keep(repository, place, file, there.size(), sha256, None).await;
        }
        let validator = match &file.checksum {
            Some(_) => None,
            None => self.upstream.head(&file.url).await?.0,
        };
        let key = match (&file.checksum, &validator) {
            (Some(checksum), _) => checksum.clone(),
            (None, validator) => format!("{}#{validator:?}", file.url),
        };
        let anew = file.checksum.is_none() && validator.is_none();
        let slot = self.slot(&key, anew).await?;
        // Another server may have been faster.
        if let Some(kept) = self.kept(repository, place, file).await? {
            self.blocking(move |_, _| slot.clear()).await?;
            return if repository.open_file(&kept.sha256).await?.is_some() {
                Ok(())
            } else {
                Err(Failed::passing("it was let go just now"))
            };
        }
        let checksum = file.checksum.as_deref().map(str::parse::<Checksum>).transpose();
        let checksum = checksum.map_err(|error| Failed::own(error.to_string()))?;
        let request = Request { url: file.url.clone(), checksum, limit: self.settings.limit };
        let told = (self.clone(), reach.clone(), place.clone());
        let (slot, fetched) = self
            .blocking(move |client, stop| {
                let (this, reach, place) = told;
                let note = |text: &str| this.note(&format!("{place}: {text}"));
                let fetched = slot.fetch(client, &request, &Told { reach: &reach, note: &note }, stop);
                if let Err(FetchError::Mismatch { .. }) = fetched {
                    // What is wrong is gone already; where this fails, an empty place stays.
                    let _ = slot.clear();
                    return fetched.map(|_| unreachable!("a mismatch"));
                }
                Ok((slot, fetched?))
            })
            .await?;
        let whole = File::open(&fetched.path)
            .map_err(|error| Failed::own(format!("what came cannot be read: {error}")))?;
        let content = whole.try_clone().map_err(|error| Failed::own(error.to_string()))?;
        reach.whole(whole, fetched.size);
        let manifest = repository.ingest(pieces(content), file.promised()).await?;
        self.keep(repository, place, file, manifest.size, manifest.sha256, validator).await?;
        self.blocking(move |_, _| slot.clear()).await?;
        Ok(())
    }
}

/// A file from its start to its end.
fn pieces(file: File) -> impl Stream<Item = Result<Bytes, Failed>> + Send {
    futures_util::stream::try_unfold((file, 0), |(file, at)| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; PIECE];
            let count = std::os::unix::fs::FileExt::read_at(&file, &mut buffer, at)?;
            buffer.truncate(count);
            Ok::<_, std::io::Error>((file, Bytes::from(buffer)))
        });
        let (file, bytes) = read
            .await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|error| Failed::own(format!("what came cannot be read: {error}")))?;
        let next = at + bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some((bytes, (file, next))))
    })
}
