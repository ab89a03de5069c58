//! Where a content is cut.

use std::convert::Infallible;

use fastcdc::v2020::{Normalization, cut, select_masks};

/// Least bytes of zeros in a row that become a hole, counted in whole blocks.
pub const HOLE: u64 = 64 << 10;
/// Most bytes in a chunk.
pub const MAX_CHUNK: usize = 256 << 10;

/// What file systems lay files out in: holes begin and end at multiples of it.
const BLOCK: usize = 4096;
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// How much is gathered before it is cut.
const WINDOW: usize = 2 << 20;
const MIN_CHUNK: usize = 16 << 10;
/// Smaller chunks find more that is equal, and there are more of them: of two Debian images (860 MB each, with and without
/// security updates) the second brought 25 % at 16 KiB in 40,000 chunks, 31 % at 64 KiB in 10,000, 41 % at 256 KiB.
/// `examples/sizes.rs` measures it.
const AVERAGE_CHUNK: usize = 64 << 10;

/// A piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// So many zeros.
    Hole(u64),
    /// Bytes to keep, [`MAX_CHUNK`] at most.
    Chunk(&'a [u8]),
}

/// A hole of `length` bytes as chunks of zeros, for those who keep no holes: one after the other, each a new look at the same
/// bytes.
pub fn zeros(length: u64) -> impl Iterator<Item = &'static [u8]> {
    static ZEROS: [u8; MAX_CHUNK] = [0; MAX_CHUNK];
    let mut left = length;
    std::iter::from_fn(move || {
        let now = MAX_CHUNK.min(usize::try_from(left).unwrap_or(MAX_CHUNK));
        left -= now as u64;
        (now > 0).then(|| &ZEROS[..now])
    })
}

/// How chunks are sized, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    min: usize,
    average: usize,
    max: usize,
}

/// Divides a content, which is handed to it from start to end, into pieces. They depend on the content alone, not on
/// how it is handed over. Runs of zeros of at least [`HOLE`] bytes become holes; what lies between them is cut where
/// the bytes say so.
#[derive(Debug)]
pub struct Cutter {
    sizes: Sizes,
    /// The beginning of a block that has not wholly come.
    block: Vec<u8>,
    /// Zeros that came after what is in `data`.
    zeros: u64,
    /// What was not cut yet.
    data: Vec<u8>,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::with(Sizes { min: MIN_CHUNK, average: AVERAGE_CHUNK, max: MAX_CHUNK })
    }
}

impl Cutter {
    /// With chunks of other sizes (bytes), to measure what they would come to. Contents that were cut differently share
    /// no chunks.
    #[must_use]
    pub fn sized(min: usize, average: usize, max: usize) -> Self {
        Self::with(Sizes { min, average, max })
    }

    fn with(sizes: Sizes) -> Self {
        Self { sizes, block: Vec::with_capacity(BLOCK), zeros: 0, data: Vec::new() }
    }

    /// The pieces of a content that is in memory.
    #[must_use]
    pub fn pieces(content: &[u8]) -> Vec<(u64, u64)> {
        let mut cutter = Self::default();
        let mut pieces = Vec::new();
        let mut offset = 0;
        let mut sink = |piece: Piece<'_>| {
            let length = match piece {
                Piece::Hole(length) => length,
                Piece::Chunk(bytes) => bytes.len() as u64,
            };
            pieces.push((offset, length));
            offset += length;
            Ok::<(), Infallible>(())
        };
        let Ok(()) = cutter.push(content, &mut sink);
        let Ok(()) = cutter.finish(&mut sink);
        pieces
    }

    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.block.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() < BLOCK {
                return Ok(());
            }
            let mut block = std::mem::take(&mut self.block);
            self.whole_block(&block, sink)?;
            block.clear();
            self.block = block;
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.whole_block(block, sink)?;
        }
        self.block.extend_from_slice(blocks.remainder());
        Ok(())
    }

    /// Takes so many zeros, which come next.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn push_hole<E>(
        &mut self,
        mut length: u64,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.block.is_empty() {
            let now = length.min((BLOCK - self.block.len()) as u64);
            self.push(&ZEROS[..now as usize], sink)?;
            length -= now;
        }
        let rest = length % BLOCK as u64;
        self.zeros += length - rest;
        self.push(&ZEROS[..rest as usize], sink)
    }

    /// The content has ended.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn finish<E>(mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let block = std::mem::take(&mut self.block);
        if block == ZEROS[..block.len()] {
            self.zeros += block.len() as u64;
        } else {
            self.whole_block(&block, sink)?;
        }
        if self.zeros >= HOLE {
            self.end_run(sink)
        } else {
            self.data.resize(self.data.len() + self.zeros as usize, 0);
            self.cut(0, sink)
        }
    }

    fn whole_block<E>(
        &mut self,
        block: &[u8],
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if block == ZEROS {
            self.zeros += BLOCK as u64;
            return Ok(());
        }
        if self.zeros >= HOLE {
            self.end_run(sink)?;
        }
        self.data.resize(self.data.len() + self.zeros as usize, 0);
        self.zeros = 0;
        self.data.extend_from_slice(block);
        if self.data.len() >= WINDOW { self.cut(self.sizes.max, sink) } else { Ok(()) }
    }

    /// Data, where there is some, and the hole after it.
    fn end_run<E>(&mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.cut(0, sink)?;
        sink(Piece::Hole(std::mem::take(&mut self.zeros)))
    }

    /// Cuts chunks off until not more than `keep` bytes are left: where more may come, a cut is certain only as long
    /// as the largest chunk lies before it.
    fn cut<E>(&mut self, keep: usize, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let Sizes { min, average, max } = self.sizes;
        let (strict, loose) = select_masks(average, Normalization::Level2);
        let mut rest = &self.data[..];
        while rest.len() > keep {
            let (_, length) = cut(rest, min, average, max, strict, loose, strict << 1, loose << 1);
            let (chunk, after) = rest.split_at(length);
            sink(Piece::Chunk(chunk))?;
            rest = after;
        }
        let done = self.data.len() - rest.len();
        self.data.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::noise;

    /// How a content is handed over, and what comes out.
    fn cut_in(parts: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut pieces = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            pieces.push(match piece {
                Piece::Hole(length) => {
                    assert!(length >= HOLE);
                    None
                }
                Piece::Chunk(bytes) => {
                    assert!(!bytes.is_empty() && bytes.len() <= MAX_CHUNK);
                    Some(bytes.to_vec())
                }
            });
            Ok::<(), Infallible>(())
        };
        let mut cutter = Cutter::default();
        for part in parts {
            // Zeros are told as a hole by turns.
            let zeros = part.iter().all(|byte| *byte == 0);
            let Ok(()) = if zeros && part.len() % 2 == 0 {
                cutter.push_hole(part.len() as u64, &mut sink)
            } else {
                cutter.push(part, &mut sink)
            };
        }
        let Ok(()) = cutter.finish(&mut sink);
        pieces
    }

    #[test]
    fn nothing_is_cut_into_nothing_and_zeros_are_a_hole() {
        assert_eq!(Cutter::pieces(b""), []);
        assert_eq!(Cutter::pieces(&vec![0; HOLE as usize]), [(0, HOLE)]);
        assert_eq!(Cutter::pieces(&vec![0; HOLE as usize + 5]), [(0, HOLE + 5)]);
        assert_eq!(Cutter::pieces(&[0; 100]), [(0, 100)]);
    }

    #[test]
    fn a_hole_as_large_as_a_disk_costs_nothing() {
        let mut pieces = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            pieces.push(match piece {
                Piece::Hole(length) => length,
                Piece::Chunk(bytes) => bytes.len() as u64,
            });
            Ok::<(), Infallible>(())
        };
        let mut cutter = Cutter::default();
        let Ok(()) = cutter.push(b"head", &mut sink);
        let Ok(()) = cutter.push_hole(1 << 60, &mut sink);
        let Ok(()) = cutter.finish(&mut sink);
        // The zeros after the head up to the next block are the head's.
        assert_eq!(pieces, [4096, (1 << 60) + 4 - 4096]);
    }

    #[test]
    fn a_change_changes_what_is_near_it_only() {
        let before = noise(1, 8 << 20);
        let mut after = before.clone();
        after.splice(3_000_000..3_000_000, *b"some bytes more");
        let there: std::collections::HashSet<_> = cut_in(&[&before]).into_iter().collect();
        let pieces = cut_in(&[&after]);
        let new = pieces.iter().filter(|piece| !there.contains(*piece)).count();
        assert!((1..=3).contains(&new), "{new} of {} are new", pieces.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_content_comes_out_whole_however_it_is_handed_over(
            runs in proptest::collection::vec((any::<bool>(), 1usize..400_000, any::<u64>()), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let content: Vec<u8> = runs
                .iter()
                .flat_map(|(data, length, seed)| if *data { noise(*seed, *length) } else { vec![0; *length] })
                .collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
            at.extend([0, content.len()]);
            at.sort_unstable();
            let parts: Vec<&[u8]> = at.windows(2).map(|pair| &content[pair[0]..pair[1]]).collect();
            let pieces = cut_in(&parts);
            prop_assert_eq!(&pieces, &cut_in(&[&content]));
            let mut place = 0;
            for ((offset, length), piece) in Cutter::pieces(&content).into_iter().zip(&pieces) {
                prop_assert_eq!(offset, place);
                let there = &content[offset as usize..(offset + length) as usize];
                match piece {
                    Some(bytes) => prop_assert_eq!(&bytes[..], there),
                    None => prop_assert!(there.iter().all(|byte| *byte == 0)),
                }
                place += length;
            }
            prop_assert_eq!(place, content.len() as u64);
        }
    }
}
