//! Images as maps: from places of the disk to places of files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::corrupt;
use crate::{Extent, ImageError, ReadImage, Result, Storage};

/// Most pieces of all files that are told apart by [`Mapped::check`]; 64 MiB of bits.
const MAX_MARKS: u64 = 1 << 29;
/// Pieces behind each other in a file are read at once up to this many bytes.
const AT_ONCE: u64 = 4 << 20;

/// What a format says of where things are.
pub trait Map: Send + Sync {
    /// Size of the disk, bytes.
    fn size(&self) -> u64;

    /// The files that [`Place`]s are in.
    fn files(&self) -> &[Storage];

    /// How far apart two pieces of one of the files begin at least, bytes; `None` where all lies in order.
    fn grain(&self, file: usize) -> Option<u64>;

    /// What is at `at`, which is less than the size.
    fn locate(&self, at: u64) -> Result<Run>;

    /// Unpacks all of `packed` into `into`, which is as long as it says.
    fn unpack(&self, packed: &Packed, into: &mut [u8]) -> Result<()> {
        let _ = into;
        Err(corrupt(format!("nothing is packed in this format, but byte {} is", packed.at)))
    }
}

/// What is at a place of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// For how many bytes it goes on; cut where the disk ends.
    pub length: u64,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing: zeros, or what the image stands on has there.
    Below,
    /// Zeros.
    Zero,
    /// The bytes themselves.
    Plain { file: usize, at: u64 },
    /// Bytes that have to be unpacked.
    Packed(Packed),
}

/// A packed piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    pub file: usize,
    /// Where it is in the file.
    pub at: u64,
    /// How long it is there at most, bytes.
    pub length: u64,
    /// How long it is unpacked, bytes: some 2 MiB at most.
    pub size: usize,
    /// Where in it the run begins.
    pub skip: usize,
}

/// A piece that was unpacked, and where it lies.
type Unpacked = ((usize, u64), Arc<[u8]>);

/// An image that is read through its map.
pub struct Mapped<M> {
    map: M,
    below: Option<Box<dyn ReadImage>>,
    /// The piece that was unpacked last, by its place.
    last: Mutex<Option<Unpacked>>,
}

impl<M: Map> Mapped<M> {
    pub fn new(map: M) -> Self {
        Self { map, below: None, last: Mutex::default() }
    }

    /// One that stands on `below`.
    pub fn over(map: M, below: Option<Box<dyn ReadImage>>) -> Self {
        Self { below, ..Self::new(map) }
    }

    fn run(&self, at: u64) -> Result<Run> {
        let mut run = self.map.locate(at)?;
        run.length = run.length.min(self.map.size() - at);
        if run.length == 0 {
            return Err(corrupt(format!("its tables stop at byte {at} of the disk")));
        }
        Ok(run)
    }

    fn file(&self, number: usize) -> Result<&Storage> {
        self.map.files().get(number).ok_or_else(|| corrupt("it leads to a file that it does not have"))
    }

    fn read_below(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let there = self.below.as_ref().map_or(0, |below| below.size().saturating_sub(offset));
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let (first, rest) = buffer.split_at_mut(there);
        rest.fill(0);
        match &self.below {
            Some(below) if !first.is_empty() => below.read_at(first, offset),
            _ => Ok(()),
        }
    }

    fn read_packed(&self, packed: &Packed, buffer: &mut [u8]) -> Result<()> {
        if packed.skip == 0 && packed.size == buffer.len() {
            return self.map.unpack(packed, buffer);
        }
        let key = (packed.file, packed.at);
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let whole = match kept {
            Some((last, bytes)) if last == key && bytes.len() == packed.size => bytes,
            _ => {
                let mut bytes = vec![0; packed.size];
                self.map.unpack(packed, &mut bytes)?;
                let bytes: Arc<[u8]> = bytes.into();
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, bytes.clone()));
                bytes
            }
        };
        let part = whole.get(packed.skip..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or_else(|| corrupt("a packed piece is too short"))?);
        Ok(())
    }
}

impl<M: Map> ReadImage for Mapped<M> {
    fn size(&self) -> u64 {
        self.map.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.map.size());
        let Some(end) = end else {
            return Err(ImageError::Truncated(format!("the disk has only {} bytes", self.map.size())));
        };
        let (mut at, mut rest) = (offset, buffer);
        while at < end {
            let mut run = self.run(at)?;
            // What lies behind each other is read at once.
            if let Place::Plain { file, at: place } = run.place {
                while run.length < AT_ONCE && at + run.length < end {
                    let next = self.run(at + run.length)?;
                    match next.place {
                        Place::Plain { file: f, at: p }
                            if f == file && Some(p) == place.checked_add(run.length) =>
                        {
                            run.length += next.length;
                        }
                        _ => break,
                    }
                }
            }
            let count = run.length.min(end - at);
            let (piece, others) = rest.split_at_mut(usize::try_from(count).unwrap_or(usize::MAX));
            match run.place {
                Place::Below => self.read_below(piece, at)?,
                Place::Zero => piece.fill(0),
                Place::Plain { file, at } => self.file(file)?.read_at(piece, at)?,
                Place::Packed(packed) => self.read_packed(&packed, piece)?,
            }
            rest = others;
            at += count;
        }
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        let run = self.run(offset)?;
        let extent = |length, data| Extent { offset, length, data };
        Ok(match (run.place, &self.below) {
            (Place::Below, Some(below)) if offset < below.size() => {
                let there = below.extent(offset)?;
                extent(run.length.min(there.length), there.data)
            }
            (Place::Below | Place::Zero, _) => extent(run.length, false),
            (Place::Plain { file, at }, _) if self.map.grain(file).is_none() => {
                let (data, length) = self.file(file)?.has_data(at)?;
                extent(run.length.min(length.max(1)), data)
            }
            _ => extent(run.length, true),
        })
    }

    fn check(&self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let mut marks = Marks::new(self.map.files(), |file| self.map.grain(file));
        let (mut at, mut last) = (0, None);
        while at < self.map.size() {
            if cancelled() {
                return Err(ImageError::Cancelled);
            }
            let run = self.run(at)?;
            let (file, from, length) = match run.place {
                Place::Below | Place::Zero => {
                    at += run.length;
                    continue;
                }
                Place::Plain { file, at } => (file, at, run.length),
                // Where it ends is seen when it is unpacked.
                Place::Packed(packed) => (packed.file, packed.at, 1),
            };
            let there = self.file(file)?.length();
            if from.checked_add(length).is_none_or(|end| end > there) {
                return Err(ImageError::Truncated("some of its data is not there".to_owned()));
            }
            if let Place::Packed(packed) = run.place {
                // Several runs of one piece are one.
                if last != Some((file, from)) {
                    marks.packed(file, packed.size as u64, there)?;
                }
                last = Some((file, from));
            } else {
                marks.plain(file, from, length)?;
            }
            at += run.length;
        }
        self.below.as_ref().map_or(Ok(()), |below| below.check(cancelled))
    }
}

/// Which pieces of the files are taken.
struct Marks {
    /// By file: the grain, and a bit for each place where a piece may begin; `None` where these are too many.
    taken: Vec<Option<(u64, Vec<u64>)>>,
    unpacked: HashMap<usize, u64>,
}

impl Marks {
    fn new(files: &[Storage], grain: impl Fn(usize) -> Option<u64>) -> Self {
        let mut left = MAX_MARKS;
        let words = |(number, file): (usize, &Storage)| {
            let grain = grain(number)?;
            let count = file.length().checked_div(grain).filter(|count| *count < left)?;
            left -= count;
            Some((grain, vec![0; usize::try_from(count / 64 + 1).ok()?]))
        };
        Self { taken: files.iter().enumerate().map(words).collect(), unpacked: HashMap::new() }
    }

    /// Pieces that do not overlap begin in different grains of the file.
    fn plain(&mut self, file: usize, at: u64, length: u64) -> Result<()> {
        let Some(Some((grain, taken))) = self.taken.get_mut(file) else { return Ok(()) };
        let first = at / *grain;
        for piece in first..first + length.div_ceil(*grain) {
            let Some(word) = taken.get_mut((piece / 64) as usize) else { return Ok(()) };
            if *word >> (piece % 64) & 1 == 1 {
                return Err(corrupt(format!("two places of the disk lead to byte {at} of its file")));
            }
            *word |= 1 << (piece % 64);
        }
        Ok(())
    }

    /// No compression makes one byte of more than some thousands.
    fn packed(&mut self, file: usize, size: u64, there: u64) -> Result<()> {
        const MOST: u64 = 40_000;
        let sum = self.unpacked.entry(file).or_default();
        *sum += size;
        if *sum > there.saturating_mul(MOST) {
            return Err(corrupt("it would unpack to more than any compression can have packed"));
        }
        Ok(())
    }
}
