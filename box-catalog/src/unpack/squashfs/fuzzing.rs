//! An image that nobody has looked at, in memory.

use std::io::{self, Read as _};

use super::{Source, walk};
use crate::unpack::Limits;
use crate::unpack::refusal::Refusal;
use crate::unpack::tar_stream::Kind;

impl Source for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Reads all of an image, within bounds: no path leads out, and a file has as many bytes as its pieces.
pub fn check(image: &[u8]) {
    let limits = Limits { bytes: 8 << 20, entries: 5000 };
    let mut total = 0;
    let _ = walk(image, limits, &mut |path, entry, data| {
        assert!(path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"." | b"..")));
        let Kind::File { extents, .. } = &entry.kind else { return Ok(()) };
        let told: u64 = extents.iter().map(|extent| extent.length).sum();
        total += told;
        if total > limits.bytes {
            return Err(Refusal::TooLarge("what is read of it".to_owned()));
        }
        let read = io::copy(&mut data.take(told + 1), &mut io::sink());
        assert!(read.map_or(true, |read| read == told));
        Ok(())
    });
}
