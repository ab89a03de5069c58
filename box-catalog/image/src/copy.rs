//! Going through an image's data, in order, by several threads at once; and copying it into a file with holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use crate::{ImageError, ReadImage, Result};

/// Bytes that are read at once: all that is packed together is within one such piece.
pub const PIECE: u64 = 2 << 20;
/// Zeros from this many bytes on become holes.
const HOLE: usize = 4096;
const MAX_THREADS: usize = 8;

/// How a copy tells and is told.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// Hears of how many more bytes of the disk are done.
    pub progress: &'a dyn Fn(u64),
    /// Ends it early.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that are not in holes.
    pub data: u64,
}

/// Writes the disk's bytes into the empty file `into`, holes where there are zeros; `path` is what errors call it, and `limit`
/// the most bytes that may be written. Nothing is synced.
///
/// # Errors
/// Those of reading, [`ImageError::TooLarge`], [`ImageError::Cancelled`], [`ImageError::Full`], [`ImageError::Io`].
pub fn copy_to(
    image: &dyn ReadImage,
    into: &File,
    path: &Path,
    limit: u64,
    told: Told<'_>,
) -> Result<Copied> {
    let failed = |error| ImageError::io("write", path, error);
    let mut copied = Copied { data: 0 };
    let work = |offset: u64, bytes: &[u8]| {
        let mut written = 0;
        for (at, run) in data_runs(bytes, HOLE) {
            into.write_all_at(run, offset + at as u64).map_err(failed)?;
            written += run.len() as u64;
        }
        Ok(written)
    };
    in_order(image, told, work, |_, written| {
        copied.data += written;
        if copied.data > limit { Err(ImageError::TooLarge(limit)) } else { Ok(()) }
    })?;
    into.set_len(image.size()).map_err(failed)?;
    Ok(copied)
}

/// Gives each piece of the disk that may hold data to `work`, with its offset, in several threads; and what that gives to
/// `take`, in order.
pub fn in_order<T: Send>(
    image: &dyn ReadImage,
    told: Told<'_>,
    work: impl Fn(u64, &[u8]) -> Result<T> + Sync,
    mut take: impl FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let work = &work;
    std::thread::scope(|scope| {
        let mut done = Vec::new();
        for first in 0..count {
            let (sender, receiver) = sync_channel(1);
            done.push(receiver);
            scope.spawn(move || {
                let mut buffer = vec![0; PIECE as usize];
                for offset in (Pieces { image, at: 0 }).skip(first).step_by(count) {
                    let result = offset.and_then(|offset| {
                        if (told.cancelled)() {
                            return Err(ImageError::Cancelled);
                        }
                        let length = (image.size() - offset).min(PIECE) as usize;
                        image.read_at(&mut buffer[..length], offset)?;
                        work(offset, &buffer[..length]).map(|given| (offset, given))
                    });
                    let failed = result.is_err();
                    // Nobody listens once something else has failed.
                    if sender.send(result).is_err() || failed {
                        return;
                    }
                }
            });
        }
        let mut at = 0;
        for receiver in done.iter().cycle() {
            let Ok(result) = receiver.recv() else { break };
            let (offset, given) = result?;
            take(offset, given)?;
            (told.progress)(offset - at);
            at = offset;
        }
        (told.progress)(image.size() - at);
        Ok(())
    })
}

/// Where the pieces begin that may hold data.
struct Pieces<'a> {
    image: &'a dyn ReadImage,
    at: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.image.size() {
            match self.image.extent(self.at) {
                Ok(extent) if extent.data => {
                    let start = self.at / PIECE * PIECE;
                    self.at = start + PIECE;
                    return Some(Ok(start));
                }
                Ok(extent) => self.at += extent.length,
                Err(error) => {
                    self.at = u64::MAX;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The runs of whole units that are not zeros, each as long as it can be, with their places in `bytes`.
pub fn data_runs(bytes: &[u8], unit: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    let end_of = move |at: usize| (at + unit).min(bytes.len());
    std::iter::from_fn(move || {
        while at < bytes.len() && is_zero(&bytes[at..end_of(at)]) {
            at = end_of(at);
        }
        let start = at;
        while at < bytes.len() && !is_zero(&bytes[at..end_of(at)]) {
            at = end_of(at);
        }
        (start < at).then(|| (start, &bytes[start..at]))
    })
}

/// Whether all of it is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Without a way out of the inner loop the compiler can look at many bytes at once.
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_zeros() {
        let mut bytes = vec![0; 1000];
        bytes[100] = 1;
        bytes[250] = 1;
        bytes[999] = 1;
        let runs: Vec<_> = data_runs(&bytes, 100).map(|(at, run)| (at, run.len())).collect();
        assert_eq!(runs, [(100, 200), (900, 100)]);
        assert_eq!(data_runs(&bytes[..100], 64).count(), 0);
        assert_eq!(data_runs(&[], 64).count(), 0);
    }
}
