//! What an initial RAM file system holds.
//!
//! It is a row of archives, each of them plain or compressed, with zeros between them (the Linux kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, BufRead, Read};

use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

/// Most bytes that all of it may unpack to: more than any machine that boots it would have room for.
const MAX_UNPACKED: u64 = 4 << 30;
/// What each entry of an archive as [`pack`] makes it begins with.
pub const MAGIC: &[u8] = b"070701";
/// Longest name, bytes.
const MAX_NAME: usize = 4096;
/// Most memory that xz may ask for, bytes.
const XZ_MEMORY: u64 = 128 << 20;

/// Why it was not looked at to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// A compression that is not known here: LZO, LZ4, bzip2.
    Compression,
    /// It ends early, or makes no sense.
    Damaged,
}

/// Hands over the path of each file in it, without a slash at its beginning.
pub fn paths(initrd: &[u8], take: &mut dyn FnMut(&str)) -> Result<(), Unread> {
    let mut left = MAX_UNPACKED;
    let mut input = initrd;
    loop {
        let zeros = input.iter().take_while(|byte| **byte == 0).count();
        input = &input[zeros..];
        if input.is_empty() {
            return Ok(());
        }
        input = one(input, &mut left, take)?;
    }
}

/// Goes through the archive that `input` begins with; what is behind it comes back.
fn one<'a>(input: &'a [u8], left: &mut u64, take: &mut dyn FnMut(&str)) -> Result<&'a [u8], Unread> {
    if is_archive(input) {
        let mut rest = input;
        archive(&mut Limited { inner: &mut rest, left }, take)?;
        return Ok(rest);
    }
    if input.starts_with(b"\x1f\x8b") {
        let mut decoder = flate2::bufread::GzDecoder::new(input);
        return all(&mut decoder, left, take).map(|()| decoder.into_inner());
    }
    if input.starts_with(b"\xfd7zXZ\0") {
        return lzma(input, Stream::new_stream_decoder(XZ_MEMORY, 0), left, take);
    }
    if input.starts_with(b"\x5d\0\0") {
        return lzma(input, Stream::new_lzma_decoder(XZ_MEMORY), left, take);
    }
    if input.starts_with(b"\x28\xb5\x2f\xfd") {
        let mut decoder =
            zstd::stream::read::Decoder::with_buffer(input).map_err(|_| Unread::Damaged)?.single_frame();
        return all(&mut decoder, left, take).map(|()| decoder.finish());
    }
    Err(Unread::Compression)
}

fn lzma<'a>(
    input: &'a [u8],
    stream: Result<Stream, liblzma::stream::Error>,
    left: &mut u64,
    take: &mut dyn FnMut(&str),
) -> Result<&'a [u8], Unread> {
    let mut decoder = XzDecoder::new_stream(input, stream.map_err(|_| Unread::Damaged)?);
    all(&mut decoder, left, take).map(|()| decoder.into_inner())
}

/// All archives that were compressed as one.
fn all(input: &mut impl Read, left: &mut u64, take: &mut dyn FnMut(&str)) -> Result<(), Unread> {
    let mut input = io::BufReader::with_capacity(64 << 10, Limited { inner: input, left });
    loop {
        // Zeros are between archives, and behind the last one.
        let zeros = loop {
            let buffer = input.fill_buf().map_err(|_| Unread::Damaged)?;
            if buffer.is_empty() {
                return Ok(());
            }
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros < buffer.len() {
                break zeros;
            }
            input.consume(zeros);
        };
        input.consume(zeros);
        archive(&mut input, take)?;
    }
}

fn is_archive(input: &[u8]) -> bool {
    input.starts_with(MAGIC) || input.starts_with(b"070702")
}

/// One archive, up to the entry that ends it.
fn archive(input: &mut impl Read, take: &mut dyn FnMut(&str)) -> Result<(), Unread> {
    const FILE: u32 = 0x8000;
    loop {
        let mut header = [0; 110];
        input.read_exact(&mut header).map_err(|_| Unread::Damaged)?;
        if !is_archive(&header) {
            return Err(Unread::Damaged);
        }
        let field = |index: usize| {
            let digits = str::from_utf8(&header[6 + index * 8..14 + index * 8]).ok();
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(Unread::Damaged)
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)? as usize);
        if name_size == 0 || name_size > MAX_NAME {
            return Err(Unread::Damaged);
        }
        // The header and the name fill up a multiple of four, as does the content.
        let mut name = vec![0; (110 + name_size).next_multiple_of(4) - 110];
        input.read_exact(&mut name).map_err(|_| Unread::Damaged)?;
        let name = str::from_utf8(&name[..name_size - 1]).unwrap_or_default();
        if name == "TRAILER!!!" {
            return Ok(());
        }
        if mode & 0xf000 == FILE {
            take(name.trim_start_matches("./").trim_start_matches('/'));
        }
        let padded = u64::from(size).next_multiple_of(4);
        let skipped = io::copy(&mut input.by_ref().take(padded), &mut io::sink());
        if skipped.map_err(|_| Unread::Damaged)? < padded {
            return Err(Unread::Damaged);
        }
    }
}

/// Ends with an error once too much came.
struct Limited<'a, R> {
    inner: &'a mut R,
    left: &'a mut u64,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("too much"))?;
        Ok(count)
    }
}

/// An archive of files, and of directories, whose names end with a slash and which come before what is in them.
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut entry = |number: usize, name: &str, mode: u32, content: &[u8]| {
        let fields =
            [number as u32, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        out.extend(MAGIC);
        fields.iter().for_each(|field| out.extend(format!("{field:08X}").bytes()));
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (index, (name, content)) in files.iter().enumerate() {
        match content.last() {
            // A directory.
            None if name.ends_with('/') => entry(index + 1, name.trim_end_matches('/'), 0o40_755, b""),
            _ => entry(index + 1, name, 0o100_644, content),
        }
    }
    entry(0, "TRAILER!!!", 0, b"");
    out
}
