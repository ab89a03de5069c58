//! How much of a file that is being fetched is there: written by who fetches, waited for by all who want it.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use posada_fetch::Progress;
use tokio::sync::watch;

use super::Failed;

/// Bytes that are read at a time.
const PIECE: u64 = 256 << 10;

/// How much is there.
#[derive(Debug)]
pub(super) struct Reach {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Bytes that came from upstream, of all files.
    came: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    part: Option<Arc<File>>,
    /// How often it began anew; 0 is not yet.
    generation: u64,
    total: Option<u64>,
    there: Runs,
    end: Option<End>,
}

/// How a transfer ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// All of it is there, and is what it was to be.
    Whole,
    /// It lies in the repository; nothing was fetched.
    Kept,
    Failed(Failed),
}

/// What is known once the first of it is there.
#[derive(Debug, Clone)]
pub(crate) enum Begun {
    /// It comes, so many bytes where that is known.
    Coming {
        generation: u64,
        total: Option<u64>,
    },
    /// It lies in the repository.
    Kept,
    Failed(Failed),
}

impl Reach {
    pub(super) fn new(came: Arc<AtomicU64>) -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), came }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// It is all there, in `file`.
    pub(super) fn whole(&self, file: File, size: u64) {
        self.change(|state| {
            // What came before is what lies there; who reads it reads on.
            if state.generation == 0 || state.part.is_none() {
                (state.part, state.generation) = (Some(Arc::new(file)), 1);
            }
            state.total = Some(size);
            state.there = Runs::default();
            state.there.add(0..size);
            state.end = Some(End::Whole);
        });
    }

    /// It came to an end; one that it came to before stays.
    pub(super) fn end(&self, end: End) {
        self.change(|state| {
            state.end.get_or_insert(end);
        });
    }

    /// Waits until the first is known.
    pub(super) async fn begun(&self) -> Begun {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let state = self.state();
                match &state.end {
                    Some(End::Kept) => return Begun::Kept,
                    Some(End::Failed(why)) => return Begun::Failed(why.clone()),
                    Some(End::Whole) | None => {}
                }
                if state.generation > 0 {
                    return Begun::Coming { generation: state.generation, total: state.total };
                }
            }
            // Cannot fail: the sender is here.
            let _ = changed.changed().await;
        }
    }

    /// The bytes from `first` on, up to but without `end`, as they come. The last byte of the file comes when all of it is
    /// what it was to be.
    pub(super) fn read(
        self: Arc<Self>,
        generation: u64,
        first: u64,
        end: Option<u64>,
    ) -> impl Stream<Item = Result<Bytes, Failed>> + Send {
        futures_util::stream::try_unfold((self, first), move |(this, at)| async move {
            let mut changed = this.changed.subscribe();
            loop {
                match this.next(generation, at, end)? {
                    Next::Done => return Ok(None),
                    Next::Piece(file, upto) => {
                        let bytes = read(file, at..upto).await?;
                        // It may have been written anew meanwhile.
                        this.next(generation, at, end)?;
                        return Ok(Some((bytes, (this, upto))));
                    }
                    Next::Wait => {
                        let _ = changed.changed().await;
                    }
                }
            }
        })
    }

    fn next(&self, generation: u64, at: u64, end: Option<u64>) -> Result<Next, Failed> {
        let state = self.state();
        if let Some(End::Failed(why)) = &state.end {
            return Err(why.clone());
        }
        if state.generation != generation {
            return Err(Failed::passing("the file changed upstream while it was fetched"));
        }
        let whole = matches!(state.end, Some(End::Whole));
        let there = state.there.end_from(at);
        let safe = match state.total {
            _ if whole => there,
            Some(total) => there.min(total.saturating_sub(1)),
            None => there.saturating_sub(1),
        };
        let upto = end.map_or(safe, |end| safe.min(end)).min(at + PIECE);
        let done = end.is_some_and(|end| at >= end) || whole && state.total.is_some_and(|total| at >= total);
        Ok(match &state.part {
            _ if done => Next::Done,
            Some(part) if upto > at => Next::Piece(part.clone(), upto),
            _ => Next::Wait,
        })
    }
}

enum Next {
    Piece(Arc<File>, u64),
    Wait,
    Done,
}

async fn read(file: Arc<File>, bytes: Range<u64>) -> Result<Bytes, Failed> {
    let read = tokio::task::spawn_blocking(move || {
        // At most a piece.
        let mut buffer = vec![0; (bytes.end - bytes.start) as usize];
        file.read_exact_at(&mut buffer, bytes.start).map(|()| Bytes::from(buffer))
    });
    let read = read.await.map_err(std::io::Error::other).flatten();
    read.map_err(|error| Failed::own(format!("what came cannot be read: {error}")))
}

/// Tells a reach what comes.
pub(super) struct Told<'a> {
    pub reach: &'a Reach,
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Progress for Told<'_> {
    fn begin(&self, total: Option<u64>, _: u64) {
        self.reach.change(|state| {
            state.generation += 1;
            (state.total, state.there) = (total, Runs::default());
        });
    }

    fn came(&self, bytes: u64) {
        self.reach.came.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        (self.note)(text);
    }

    fn grows(&self, part: &Arc<File>) {
        self.reach.change(|state| state.part = Some(part.clone()));
    }

    fn there(&self, bytes: Range<u64>) {
        self.reach.change(|state| state.there.add(bytes));
    }
}

/// Bytes, as runs that do not touch: where each begins and ends.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    fn add(&mut self, bytes: Range<u64>) {
        let Range { mut start, mut end } = bytes;
        if start >= end {
            return;
        }
        while let Some((&first, &last)) = self.0.range(..=end).next_back().filter(|(_, last)| **last >= start)
        {
            self.0.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.0.insert(start, end);
    }

    /// Up to where there is no gap from `at` on; `at` where it is not there itself.
    fn end_from(&self, at: u64) -> u64 {
        self.0.range(..=at).next_back().map_or(at, |(_, end)| (*end).max(at))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    use proptest::prelude::*;

    use super::*;

    fn bench(content: &[u8]) -> (Arc<Reach>, Arc<File>) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        (Arc::new(Reach::new(Arc::default())), Arc::new(file))
    }

    #[tokio::test]
    async fn the_last_byte_waits_until_the_whole_is_known_to_be_right() {
        let (reach, file) = bench(b"0123456789");
        let told = Told { reach: &reach, note: &|_| {} };
        told.grows(&file);
        told.begin(Some(10), 0);
        told.there(0..4);
        let Begun::Coming { generation, total: Some(10) } = reach.begun().await else { panic!() };
        let mut stream = Box::pin(reach.clone().read(generation, 2, Some(10)));
        assert_eq!(stream.next().await.unwrap().unwrap(), "23");
        // Parts that do not join on are waited for.
        told.there(6..10);
        assert!(futures_util::poll!(stream.next()).is_pending());
        told.there(4..6);
        assert_eq!(stream.next().await.unwrap().unwrap(), "45678");
        assert!(futures_util::poll!(stream.next()).is_pending());
        reach.whole(tempfile::tempfile().unwrap(), 10);
        assert_eq!(stream.next().await.unwrap().unwrap(), "9");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn what_fails_or_begins_anew_cuts_who_reads() {
        let (reach, file) = bench(b"0123456789");
        let told = Told { reach: &reach, note: &|_| {} };
        told.grows(&file);
        told.begin(None, 0);
        told.there(0..5);
        let mut first = Box::pin(reach.clone().read(1, 0, None));
        assert_eq!(first.next().await.unwrap().unwrap(), "0123");
        told.begin(None, 0);
        assert!(first.next().await.unwrap().is_err());
        let second = reach.clone().read(2, 0, None);
        reach.end(End::Failed(Failed::passing("gone")));
        assert!(second.try_collect::<Vec<_>>().await.is_err());
        assert!(matches!(reach.begun().await, Begun::Failed(_)));
    }

    #[tokio::test]
    async fn an_empty_file_ends() {
        let (reach, _) = bench(b"");
        reach.whole(tempfile::tempfile().unwrap(), 0);
        let Begun::Coming { generation, total: Some(0) } = reach.begun().await else { panic!() };
        assert!(Box::pin(reach.read(generation, 0, Some(0))).next().await.is_none());
    }

    proptest! {
        #[test]
        fn runs_are_what_was_added(added in prop::collection::vec((0_u64..60, 0_u64..20), 0..12), at in 0_u64..80) {
            let (mut runs, mut bytes) = (Runs::default(), [false; 100]);
            for (start, length) in added {
                runs.add(start..start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            let end = (at as usize..100).find(|at| !bytes[*at]).unwrap();
            prop_assert_eq!(runs.end_from(at), end as u64);
            prop_assert!(runs.0.iter().zip(runs.0.iter().skip(1)).all(|((_, end), (start, _))| end < start));
        }
    }
}
