//! Sparse files in tar archives: GNU's own form, and the pax forms 0.0, 0.1 and 1.0.

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::number;
use super::refusal::Refusal;

/// Most pieces a sparse file may come in.
const MAX_EXTENTS: usize = 100_000;

/// A piece of a file that is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file, bytes.
    pub offset: u64,
    /// How long, bytes.
    pub length: u64,
}

/// A file without holes.
pub fn whole(size: u64) -> Vec<Extent> {
    vec![Extent { offset: 0, length: size }]
}

/// Which pieces of a file there are, as an archive says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The file's size, bytes.
    pub size: u64,
    extents: Vec<Extent>,
}

impl Map {
    /// The pieces, once they are in order, do not overlap, and come to just the `stored` bytes.
    pub fn checked(self, stored: u64, path: &[u8]) -> Result<Vec<Extent>, Refusal> {
        let refuse = || Refusal::absurd(path, "a sparse map that does not fit its data");
        let (mut end, mut sum) = (0u64, 0u64);
        for extent in &self.extents {
            if extent.offset < end {
                return Err(refuse());
            }
            end = extent.offset.checked_add(extent.length).ok_or_else(refuse)?;
            sum += extent.length;
        }
        if end > self.size || sum != stored { Err(refuse()) } else { Ok(self.extents) }
    }
}

/// The map in a GNU sparse header and the blocks that follow it.
pub fn gnu_map(
    header: &Header,
    mut block: impl FnMut() -> Result<[u8; 512], Refusal>,
) -> Result<Map, Refusal> {
    let damaged = || Refusal::Corrupt("a sparse file's header".to_owned());
    let gnu = header.as_gnu().ok_or_else(damaged)?;
    let mut map = Map { size: gnu.real_size().map_err(|_| damaged())?, extents: Vec::new() };
    let mut take = |pieces: &[GnuSparseHeader]| {
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let (Ok(offset), Ok(length)) = (piece.offset(), piece.length()) else { return Err(damaged()) };
            push(&mut map.extents, Extent { offset, length })?;
        }
        Ok(())
    };
    take(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut extended = GnuExtSparseHeader::new();
        extended.as_mut_bytes().copy_from_slice(&block()?);
        if extended.sparse().iter().all(GnuSparseHeader::is_empty) {
            return Err(damaged());
        }
        take(extended.sparse())?;
        more = extended.is_extended();
    }
    Ok(map)
}

fn push(extents: &mut Vec<Extent>, extent: Extent) -> Result<(), Refusal> {
    if extents.len() == MAX_EXTENTS {
        return Err(Refusal::Corrupt(format!("a sparse file in more than {MAX_EXTENTS} pieces")));
    }
    extents.push(extent);
    Ok(())
}

/// The `GNU.sparse.…` records of a pax header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaxSparse {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    major: Option<u64>,
    /// Offsets and lengths by turns (forms 0.0 and 0.1).
    numbers: Vec<u64>,
}

impl PaxSparse {
    /// Takes one record; `key` is without `GNU.sparse.`.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let damaged = || Refusal::Corrupt("a sparse file's pax header".to_owned());
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value).ok_or_else(damaged)?),
            b"major" => self.major = Some(number(value).ok_or_else(damaged)?),
            b"offset" | b"numbytes" => self.numbers.push(number(value).ok_or_else(damaged)?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(number);
                self.numbers = numbers.collect::<Option<_>>().ok_or_else(damaged)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The file's real name, where it is not the entry's, and its map. Form 1.0 has the map before the data.
    pub fn resolve(mut self, data: &mut impl Read, path: &[u8]) -> Result<(Option<Vec<u8>>, Map), Refusal> {
        let refuse = || Refusal::absurd(path, "a sparse map that cannot be read");
        if self.major == Some(1) {
            self.numbers = leading_map(data, path)?;
        }
        if !self.numbers.len().is_multiple_of(2) {
            return Err(refuse());
        }
        let mut extents = Vec::new();
        for pair in self.numbers.chunks_exact(2) {
            push(&mut extents, Extent { offset: pair[0], length: pair[1] })?;
        }
        Ok((self.name, Map { size: self.size.ok_or_else(refuse)?, extents }))
    }
}

/// Decimal numbers, one a line: how many pieces, then offset and length of each; padded to whole blocks.
fn leading_map(data: &mut impl Read, path: &[u8]) -> Result<Vec<u64>, Refusal> {
    let refuse = || Refusal::absurd(path, "a sparse map that cannot be read");
    let mut numbers: Vec<u64> = Vec::new();
    let mut line = Vec::new();
    let mut wanted = None;
    loop {
        let mut block = [0; 512];
        data.read_exact(&mut block).map_err(|error| Refusal::reading(&error))?;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(refuse());
                }
                continue;
            }
            let value = number(&line).ok_or_else(refuse)?;
            line.clear();
            match wanted {
                None if value > MAX_EXTENTS as u64 => return Err(refuse()),
                None => wanted = Some(value as usize * 2),
                Some(_) => numbers.push(value),
            }
            if wanted == Some(numbers.len()) {
                return Ok(numbers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(size: u64, pieces: &[(u64, u64)]) -> Map {
        Map {
            size,
            extents: pieces
                .iter()
                .map(|(offset, length)| Extent { offset: *offset, length: *length })
                .collect(),
        }
    }

    #[test]
    fn maps_must_fit() {
        assert!(map(100, &[(0, 10), (50, 50)]).checked(60, b"f").is_ok());
        assert!(map(100, &[(0, 10), (100, 0)]).checked(10, b"f").is_ok());
        for (bad, stored) in [
            (map(100, &[(50, 50), (0, 10)]), 60),
            (map(100, &[(0, 10), (5, 10)]), 20),
            (map(100, &[(0, 101)]), 101),
            (map(100, &[(0, 10)]), 11),
            (map(u64::MAX, &[(u64::MAX, 2)]), 2),
        ] {
            assert!(bad.clone().checked(stored, b"f").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_leading_map_is_read_and_bounded() {
        let mut block = b"2\n0\n3\n4096\n5\n".to_vec();
        block.resize(512, 0);
        assert_eq!(leading_map(&mut &block[..], b"f").unwrap(), [0, 3, 4096, 5]);
        for bad in [&b"99999999\n"[..], b"x\n", b"111111111111111111111111", b"\n"] {
            let mut block = bad.to_vec();
            block.resize(512, 0);
            assert!(leading_map(&mut &block[..], b"f").is_err(), "{bad:?}");
        }
    }
}
