//! How a whole content comes in: cut by one thread, kept by the others.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::Adder;
use super::pool::threads;
use crate::sparse::{Found, feed_file};
use crate::{Cutter, Digest, Entry, Error, Manifest, Piece};

/// Takes a content from start to end.
pub struct Feed<'a> {
    cutter: Cutter,
    lane: Lane<'a>,
}

/// What is known of the pieces, and where chunks go.
struct Lane<'a> {
    entries: Vec<Option<Entry>>,
    to_keep: SyncSender<(usize, Vec<u8>)>,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Lane<'_> {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        match piece {
            Piece::Hole(length) => self.entries.push(Some(Entry::Hole(length))),
            Piece::Chunk(bytes) => {
                if (self.cancelled)() {
                    return Err(Error::Cancelled);
                }
                self.entries.push(None);
                // Nobody takes it once a thread has failed, whose error then counts.
                self.to_keep.send((self.entries.len() - 1, bytes.to_vec())).map_err(|_| Error::Cancelled)?;
            }
        }
        Ok(())
    }
}

impl Feed<'_> {
    /// The bytes that come next.
    ///
    /// # Errors
    /// [`Error::Cancelled`], also where chunks cannot be kept; [`Adder::content`] then tells why.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.cutter.push(bytes, &mut |piece| self.lane.take(piece))
    }

    /// So many zeros come next.
    ///
    /// # Errors
    /// As [`Feed::data`].
    pub fn hole(&mut self, length: u64) -> Result<(), Error> {
        self.cutter.push_hole(length, &mut |piece| self.lane.take(piece))
    }
}

impl Adder {
    /// Keeps a content that `fill` hands over. Takes some mebibytes of memory a core, and some forty bytes a chunk.
    ///
    /// # Errors
    /// Those of `fill`, [`Error::Cancelled`], [`Error::DiskFull`], [`Error::Io`].
    pub fn content(
        &self,
        cancelled: &(dyn Fn() -> bool + Sync),
        fill: impl FnOnce(&mut Feed<'_>) -> Result<(), Error>,
    ) -> Result<Manifest, Error> {
        let (to_keep, chunks) = sync_channel(threads() * 4);
        let chunks = Mutex::new(Some(chunks));
        let (entries, kept) = std::thread::scope(|scope| {
            let keepers: Vec<_> = (0..threads()).map(|_| scope.spawn(|| self.keep_all(&chunks))).collect();
            let mut feed =
                Feed { cutter: Cutter::default(), lane: Lane { entries: Vec::new(), to_keep, cancelled } };
            let filled = fill(&mut feed);
            let Feed { cutter, mut lane } = feed;
            let filled = filled.and_then(|()| cutter.finish(&mut |piece| lane.take(piece)));
            let Lane { entries, to_keep, .. } = lane;
            drop(to_keep);
            let mut kept = Vec::new();
            let mut failure = None;
            for keeper in keepers {
                match keeper.join() {
                    Ok(Ok(some)) => kept.extend(some),
                    Ok(Err(error)) => failure = Some(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            match (failure, filled) {
                (Some(error), _) | (None, Err(error)) => Err(error),
                (None, Ok(())) => Ok((entries, kept)),
            }
        })?;
        let mut entries = entries;
        for (index, digest, length) in kept {
            entries[index] = Some(Entry::Chunk { digest, length });
        }
        Ok(Manifest::new(entries.into_iter().flatten().collect())?)
    }

    /// Keeps what comes, until no more does. One that fails takes the channel away from all.
    #[expect(clippy::type_complexity, reason = "what each chunk was, told once")]
    fn keep_all(
        &self,
        chunks: &Mutex<Option<Receiver<(usize, Vec<u8>)>>>,
    ) -> Result<Vec<(usize, Digest, u32)>, Error> {
        let mut kept = Vec::new();
        loop {
            let next = {
                let chunks = chunks.lock().unwrap_or_else(PoisonError::into_inner);
                chunks.as_ref().and_then(|chunks| chunks.recv().ok())
            };
            let Some((index, bytes)) = next else { return Ok(kept) };
            match self.put(&bytes) {
                // The cutter makes none that is larger than a chunk may be.
                Ok(digest) => kept.push((index, digest, bytes.len() as u32)),
                Err(error) => {
                    chunks.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return Err(error);
                }
            }
        }
    }

    /// Keeps what is in a file; holes are not read. `progress` is told of bytes as they are done.
    ///
    /// # Errors
    /// As [`Adder::content`].
    pub fn file(
        &self,
        path: &Path,
        progress: &dyn Fn(u64),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Manifest, Error> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        self.content(cancelled, |feed| {
            feed_file(
                &file,
                |error| Error::io("read", path, error),
                |found| match found {
                    Found::Hole(length) => {
                        progress(length);
                        feed.hole(length)
                    }
                    Found::Data(bytes) => {
                        progress(bytes.len() as u64);
                        feed.data(bytes)
                    }
                },
            )
        })
    }
}
