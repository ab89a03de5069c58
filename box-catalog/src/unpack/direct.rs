//! A disk image in a file of its own: read where it is, by who hashes it and by who takes it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use posada_image::Format;
use sha2::{Digest as _, Sha256};

use super::compression::{Content, content};
use super::pump::Pumped;
use super::{Refusal, disk, foreign};
use crate::Digest;

/// Bytes hashed at once.
const PIECE: usize = 1 << 20;

/// Whether `file` is a regular one with a disk image in it that is not compressed, nor in an archive.
pub fn is_image(file: &File) -> Result<bool, Refusal> {
    let there = file.metadata().map_err(|error| Refusal::reading(&error))?;
    if !there.is_file() {
        return Ok(false);
    }
    let head = head(file).map_err(|error| Refusal::reading(&error))?;
    // What is wrong with it is told by who reads all of it.
    let image = matches!(content(&head[..]), Ok(Content::Disk(_)));
    Ok(image && posada_image::probe(&head).is_some())
}

/// Writes the image in `file` into the current directory, of `limit` bytes at most: qcow2 as it is, all else raw. Tells what all of
/// the file comes to; `seen` hears of bytes that were read.
pub fn write(file: File, limit: u64, mut seen: impl FnMut(u64) + Send + 'static) -> Result<Pumped, Refusal> {
    let reading = |error: io::Error| Refusal::reading(&error);
    let before = file.metadata().map_err(reading)?;
    let head = head(&file).map_err(reading)?;
    let to_hash = file.try_clone().map_err(reading)?;
    let (pumped, written) = std::thread::scope(|scope| {
        let hashing = scope.spawn(move || hash(&to_hash, &mut seen));
        let written = match posada_image::probe(&head) {
            Some(Format::Qcow2) if !posada_image::is_special(&head) => copy(&file, before.len(), limit),
            _ => foreign::write_raw_of(&file, limit),
        };
        (hashing.join(), written)
    });
    written?;
    let pumped = pumped.map_err(|_| Refusal::Corrupt("the reader failed".to_owned()))?.map_err(reading)?;
    let after = file.metadata().map_err(reading)?;
    if state(&before) != state(&after) || pumped.size != before.len() {
        return Err(Refusal::Corrupt("it was written to while it was read".to_owned()));
    }
    Ok(pumped)
}

fn state(of: &Metadata) -> (u64, i64, i64, i64, i64) {
    (of.len(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec())
}

fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; posada_image::ENOUGH.max(posada_disk::ENOUGH)];
    let mut have = 0;
    while have < head.len() {
        match file.read_at(&mut head[have..], have as u64)? {
            0 => break,
            count => have += count,
        }
    }
    head.truncate(have);
    Ok(head)
}

fn copy(file: &File, length: u64, limit: u64) -> Result<(), Refusal> {
    if length > limit {
        return Err(Refusal::TooLarge(format!("{} GiB", limit >> 30)));
    }
    let mut into = disk::create(disk::PART)?;
    // By the kernel, where both are on file systems that can do it.
    let copied = io::copy(&mut file.take(length), &mut into);
    copied.map(drop).map_err(|error| disk::host(disk::PART, error))
}

fn hash(file: &File, seen: &mut impl FnMut(u64)) -> io::Result<Pumped> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        match file.read_at(&mut piece, size)? {
            0 => return Ok(Pumped { digest: Digest::from_bytes(hasher.finalize().into()), size }),
            count => {
                hasher.update(&piece[..count]);
                size += count as u64;
                seen(count as u64);
            }
        }
    }
}
