//! A file that is put together from chunks, in any order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use posada_chunks::{Digest, zeros};
use sha2::{Digest as _, Sha256};

use super::manifest::FileManifest;

/// A file of which some chunks are there. What was there when a process was killed is found again.
pub(super) struct Target {
    file: File,
    sha256: String,
    /// Chunks that are not there: their length, and where they belong.
    missing: HashMap<Digest, (u32, Vec<u64>)>,
    missing_bytes: u64,
}

impl Target {
    /// The file at `path`, which is to become what `manifest` says.
    pub fn open(path: &Path, manifest: &FileManifest) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let fresh = file.metadata()?.len() != manifest.size;
        if fresh {
            // What is in no chunk that is written is zeros.
            file.set_len(0)?;
            file.set_len(manifest.size)?;
        }
        let mut missing: HashMap<Digest, (u32, Vec<u64>)> = HashMap::new();
        let (mut missing_bytes, mut buffer) = (0, Vec::new());
        let zero = zeros(u64::MAX).next().map(Digest::of);
        for (offset, digest, length) in manifest.places() {
            let there = match fresh {
                true => Some(digest) == zero,
                false => {
                    buffer.resize(length as usize, 0);
                    file.read_exact_at(&mut buffer, offset)?;
                    Digest::of(&buffer) == digest
                }
            };
            if !there {
                missing.entry(digest).or_insert_with(|| (length, Vec::new())).1.push(offset);
                missing_bytes += u64::from(length);
            }
        }
        Ok(Self { file, sha256: manifest.sha256.clone(), missing, missing_bytes })
    }

    /// Bytes that are not there.
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// The chunks that are not there with their lengths, in the order of the file.
    pub fn missing(&self) -> Vec<(Digest, u32)> {
        let mut missing: Vec<_> =
            self.missing.iter().map(|(digest, (length, places))| (places[0], *digest, *length)).collect();
        missing.sort_unstable();
        missing.into_iter().map(|(_, digest, length)| (digest, length)).collect()
    }

    /// Whether `digest` is wanted.
    pub fn wants(&self, digest: &Digest) -> bool {
        self.missing.contains_key(digest)
    }

    /// Puts a chunk where it belongs. `digest` is what `bytes` were found to be.
    pub fn give(&mut self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let Some((_, places)) = self.missing.remove(digest) else { return Ok(()) };
        for offset in places {
            self.file.write_all_at(bytes, offset)?;
            self.missing_bytes -= bytes.len() as u64;
        }
        Ok(())
    }

    /// Whether all of it is there, and comes to what it is to be.
    pub fn is_sound(&mut self, advance: &dyn Fn(u64)) -> io::Result<bool> {
        if !self.missing.is_empty() {
            return Ok(false);
        }
        self.file.rewind()?;
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let count = self.file.read(&mut piece)?;
            if count == 0 {
                let digest = crate::Digest::from_bytes(hash.finalize().into());
                return Ok(digest.to_string() == self.sha256);
            }
            hash.update(&piece[..count]);
            advance(count as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_in_any_order_and_what_came_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let (path, zero) = (temp.path().join("file"), vec![0; posada_chunks::MAX_CHUNK]);
        let (a, b): (&[u8], &[u8]) = (b"one", b"another");
        let whole = [a, b, &zero, a].concat();
        let manifest = FileManifest {
            size: whole.len() as u64,
            sha256: Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect(),
            chunks: [a, b, &zero, a].map(|part| (Digest::of(part), part.len() as u32)).to_vec(),
        };
        let mut target = Target::open(&path, &manifest).unwrap();
        assert_eq!(target.missing(), [(Digest::of(a), 3), (Digest::of(b), 7)]);
        assert_eq!(target.missing_bytes(), 13);
        target.give(&Digest::of(b), b).unwrap();
        target.give(&Digest::of(b"nobody's"), b"nobody's").unwrap();
        assert!(!target.is_sound(&|_| ()).unwrap());
        drop(target);
        let mut target = Target::open(&path, &manifest).unwrap();
        assert_eq!((target.missing(), target.missing_bytes()), (vec![(Digest::of(a), 3)], 6));
        target.give(&Digest::of(a), a).unwrap();
        assert!(target.is_sound(&|_| ()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        // Chunks that are right, and a manifest that is not.
        let other = FileManifest { sha256: "0".repeat(64), ..manifest };
        assert!(!Target::open(&path, &other).unwrap().is_sound(&|_| ()).unwrap());
    }
}
