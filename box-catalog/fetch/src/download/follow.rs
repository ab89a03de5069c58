//! The checksum of a file that is still coming: read behind those who write it, out of memory as a rule.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::{Algorithm, Checksum};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// How far the file is there without a gap.
#[derive(Debug, Default)]
struct Reach {
    there: Mutex<(u64, bool)>,
    changed: Condvar,
}

/// Works out a checksum while the file grows. Dropped early, it stops.
#[derive(Debug)]
pub(super) struct Follower {
    reach: Arc<Reach>,
    thread: Option<JoinHandle<std::io::Result<Option<Checksum>>>>,
}

impl Follower {
    pub fn start(file: Arc<File>, algorithm: Algorithm) -> std::io::Result<Self> {
        let reach = Arc::new(Reach::default());
        let behind = reach.clone();
        let thread = std::thread::Builder::new().name("checksum".to_owned()).spawn(move || {
            let (mut hasher, mut at, mut buffer) = (algorithm.hasher(), 0, vec![0; PIECE]);
            loop {
                let (end, last) = {
                    let there = behind.there.lock().unwrap_or_else(PoisonError::into_inner);
                    let there = behind.changed.wait_while(there, |(end, last)| *end == at && !*last);
                    *there.unwrap_or_else(PoisonError::into_inner)
                };
                if end == u64::MAX {
                    return Ok(None);
                }
                while at < end {
                    let piece = &mut buffer[..PIECE.min(usize::try_from(end - at).unwrap_or(PIECE))];
                    file.read_exact_at(piece, at)?;
                    hasher.update(piece);
                    at += piece.len() as u64;
                }
                if last {
                    return Ok(Some(Checksum::from_bytes(algorithm, &hasher.finalize())));
                }
            }
        })?;
        Ok(Self { reach, thread: Some(thread) })
    }

    /// The file is there up to `end`, bytes.
    pub fn reaches(&self, end: u64) {
        self.set(end, false);
    }

    /// The file is there and ends at `end`: what it comes to.
    pub fn finish(mut self, end: u64) -> std::io::Result<Checksum> {
        self.set(end, true);
        let thread = self.thread.take().ok_or_else(|| std::io::Error::other("it has ended"))?;
        let ended = thread.join().map_err(|_| std::io::Error::other("the checksum's thread panicked"))?;
        ended?.ok_or_else(|| std::io::Error::other("it was stopped"))
    }

    fn set(&self, end: u64, last: bool) {
        *self.reach.there.lock().unwrap_or_else(PoisonError::into_inner) = (end, last);
        self.reach.changed.notify_one();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.set(u64::MAX, true);
            let _ = thread.join();
        }
    }
}
