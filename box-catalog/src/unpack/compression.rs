//! Which compression an archive has, by its first bytes, and the reader that undoes it.

use std::io::{self, BufRead, BufReader, Read};

use posada_disk::{DiskError, ENOUGH, Found};
use posada_provider_api::Fault as _;

use super::refusal::Refusal;
use super::squashfs;

/// Most memory that xz may ask for, bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 * 1024 * 1024;
/// Enough to see a tar header's magic.
const HEADER: usize = 512;

/// A reader of what `input` holds once its compression is undone.
///
/// # Errors
/// [`Refusal::NotAnArchive`] where it is nothing that could hold a tar archive.
pub fn decompress<'a>(input: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, Refusal> {
    let input = Peeked::new(input).map_err(|error| Refusal::reading(&error))?;
    match undo(input)? {
        Undone::Compressed(inner) => Ok(inner),
        Undone::Plain(input) if is_tar(input.head()) => Ok(Box::new(input)),
        Undone::Plain(input) => Err(Refusal::NotAnArchive(looks_like(input.head()).to_owned())),
    }
}

/// What a file holds once its compression is undone.
pub enum Content<'a> {
    /// What should be a tar archive.
    Archive(Box<dyn Read + Send + 'a>),
    /// A disk image.
    Disk(Box<dyn Read + Send + 'a>),
    /// A squashfs image.
    Squashfs(Box<dyn Read + Send + 'a>),
}

/// Tells whether `input` is an archive or a disk image, either of them plain or compressed.
///
/// # Errors
/// [`Refusal::NotAnArchive`] where it is neither; [`Refusal::Disk`] for images that cannot be read.
pub fn content<'a>(input: impl Read + Send + 'a) -> Result<Content<'a>, Refusal> {
    let input = Peeked::new(input).map_err(|error| Refusal::reading(&error))?;
    let (input, compressed): (Peeked<Box<dyn Read + Send + 'a>>, bool) = match undo(input)? {
        Undone::Compressed(inner) => (Peeked::new(inner).map_err(|error| Refusal::reading(&error))?, true),
        Undone::Plain(input) => (input.boxed(), false),
    };
    if input.head().starts_with(squashfs::MAGIC) {
        return Ok(Content::Squashfs(Box::new(input)));
    }
    // A disk may begin with zeros, as an empty archive does.
    let zeros = input.head().iter().take(HEADER).all(|byte| *byte == 0);
    if is_tar(input.head()) && !zeros {
        return Ok(Content::Archive(Box::new(input)));
    }
    match posada_disk::probe(input.head()) {
        None if posada_image::probe(input.head()).is_some() => Ok(Content::Disk(Box::new(input))),
        Some(Found::Disk(_)) => Ok(Content::Disk(Box::new(input))),
        Some(Found::Foreign(_)) if posada_image::probe(input.head()).is_some() => {
            Ok(Content::Disk(Box::new(input)))
        }
        Some(Found::Foreign(format)) => {
            let error = DiskError::Foreign { path: Default::default(), format };
            Err(Refusal::Disk { what: error.reason(), hint: error.hint() })
        }
        // Where in it the archive breaks off is told by who reads it.
        None if compressed || is_tar(input.head()) => Ok(Content::Archive(Box::new(input))),
        None => Err(Refusal::NotAnArchive(looks_like(input.head()).to_owned())),
    }
}

enum Undone<'a, R> {
    Compressed(Box<dyn Read + Send + 'a>),
    Plain(Peeked<R>),
}

fn undo<'a, R: Read + Send + 'a>(input: Peeked<R>) -> Result<Undone<'a, R>, Refusal> {
    let head = input.head();
    if head.is_empty() {
        return Err(Refusal::Empty);
    }
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Undone::Compressed(Box::new(flate2::bufread::MultiGzDecoder::new(input))));
    }
    if head.starts_with(b"\xfd7zXZ\0") {
        let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
            .map_err(|error| Refusal::Corrupt(error.to_string()))?;
        return Ok(Undone::Compressed(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))));
    }
    if head.starts_with(b"\x28\xb5\x2f\xfd") || (head.len() >= 4 && head[1..4] == *b"\x2a\x4d\x18") {
        let decoder = zstd::Decoder::with_buffer(input).map_err(|error| Refusal::reading(&error))?;
        return Ok(Undone::Compressed(Box::new(decoder)));
    }
    Ok(Undone::Plain(input))
}

fn is_tar(head: &[u8]) -> bool {
    let magic = head.get(257..262) == Some(b"ustar");
    // Two blocks of zeros are an archive too, an empty one; and the oldest tar has no magic.
    magic
        || head
            .get(..HEADER)
            .is_some_and(|head| head.iter().all(|byte| *byte == 0) || super::tar_stream::checksum_holds(head))
}

/// What a file that is no archive seems to be.
fn looks_like(head: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"QFI\xfb", "a qcow2 disk image"),
        (b"PK\x03\x04", "a zip file"),
        (b"BZh", "a bzip2 file, which is not supported"),
        (b"\x7fELF", "a program"),
        (b"#!", "a script"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
        (b"<", "a page of HTML or XML"),
    ];
    KNOWN.iter().find(|(magic, _)| head.starts_with(magic)).map_or("something else", |(_, what)| what)
}

/// A reader whose first bytes can be looked at without taking them.
struct Peeked<R> {
    head: Vec<u8>,
    taken: usize,
    rest: BufReader<R>,
}

impl<R: Read> Peeked<R> {
    fn new(input: R) -> io::Result<Self> {
        let mut rest = BufReader::with_capacity(128 * 1024, input);
        let mut head = Vec::with_capacity(ENOUGH);
        rest.by_ref().take(ENOUGH as u64).read_to_end(&mut head)?;
        Ok(Self { head, taken: 0, rest })
    }

    fn boxed<'a>(self) -> Peeked<Box<dyn Read + Send + 'a>>
    where
        R: Send + 'a,
    {
        let rest = BufReader::new(Box::new(self.rest) as Box<dyn Read + Send + 'a>);
        Peeked { head: self.head, taken: self.taken, rest }
    }

    fn head(&self) -> &[u8] {
        &self.head
    }
}

impl<R: Read> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken < self.head.len() { Ok(&self.head[self.taken..]) } else { self.rest.fill_buf() }
    }

    fn consume(&mut self, amount: usize) {
        if self.taken < self.head.len() {
            self.taken += amount;
        } else {
            self.rest.consume(amount);
        }
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken < self.head.len() {
            let count = (self.head.len() - self.taken).min(buffer.len());
            buffer[..count].copy_from_slice(&self.head[self.taken..self.taken + count]);
            self.taken += count;
            return Ok(count);
        }
        self.rest.read(buffer)
    }
}
