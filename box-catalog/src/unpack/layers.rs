//! A root file system in layers, as images of containers have it: an archive of archives that [`Feed`] makes, the lowest
//! first, each of which changes what those below it made.
//! Format: OCI image specification 1.1, "Image Layer Filesystem Changeset".

use std::collections::HashSet;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::refusal::Refusal;
use super::tar_stream::{Entry, Kind, TarStream};
use super::{Writing, compression, tree};

/// Where layers are in the archive that holds them.
const DIRECTORY: &[u8] = b".posada-layers/";
/// What hides a name of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// What hides all that the layers below have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What a union file system kept for itself.
const OWN: &[u8] = b".wh..wh.";

/// Writes the archive of layers. The same layers give the same bytes.
pub struct Feed<W>(W);

impl<W: Write> Feed<W> {
    /// The archive goes to `output`.
    pub fn new(output: W) -> Self {
        Self(output)
    }

    /// Bytes that a layer of `size` takes in it.
    pub fn length(size: u64) -> u64 {
        512 + size.next_multiple_of(512)
    }

    /// Adds the layer `number`, which counts from 0 and from the lowest.
    pub fn layer(&mut self, number: usize, size: u64, mut content: impl Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(format!("{}{number:06}", String::from_utf8_lossy(DIRECTORY)))?;
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        let copied = io::copy(&mut content.by_ref().take(size), &mut self.0)?;
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let padding = size.next_multiple_of(512) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut self.0).map(drop)
    }

    /// Ends the archive.
    pub fn end(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 1024])?;
        self.0.flush()
    }
}

/// Whether an entry at the top of an archive is a layer.
pub fn is_layer(path: &[u8], entry: &Entry) -> bool {
    path.starts_with(DIRECTORY) && matches!(entry.kind, Kind::File { .. })
}

/// Paths that one layer has made, as the first bytes of their SHA-256: what is known of each is of one size.
#[derive(Debug, Default)]
pub struct Made(HashSet<[u8; 16]>);

impl Made {
    fn insert(&mut self, path: &[u8]) {
        // Directories above it are its own as well; where one of them is known, so are those above that.
        let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(path.len()).chain(ends) {
            if !self.0.insert(Self::key(&path[..end])) && end < path.len() {
                break;
            }
        }
    }

    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(&Self::key(path))
    }

    fn key(path: &[u8]) -> [u8; 16] {
        let digest: [u8; 32] = Sha256::digest(path).into();
        std::array::from_fn(|at| digest[at])
    }
}

/// What an entry of a layer does to what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// It is a thing as any other.
    Thing,
    /// It hides this path.
    Hides(Vec<u8>),
    /// It hides what is in this directory.
    Empties(Vec<u8>),
    /// It means nothing.
    Nothing,
}

impl Change {
    fn of(path: &[u8]) -> Result<Self, Refusal> {
        let (parent, name) = tree::split(path);
        if name == OPAQUE {
            return Ok(Self::Empties(parent.to_vec()));
        }
        if name.starts_with(OWN) {
            return Ok(Self::Nothing);
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Self::Thing),
            Some(b"" | b"." | b"..") => Err(Refusal::absurd(path, "a whiteout of nothing")),
            Some(hidden) if parent.is_empty() => Ok(Self::Hides(hidden.to_vec())),
            Some(hidden) => Ok(Self::Hides([parent, b"/", hidden].concat())),
        }
    }
}

impl Writing {
    /// Applies one layer, which may be compressed.
    pub(super) fn layer(&mut self, content: impl Read + Send) -> Result<(), Refusal> {
        let mut stream = TarStream::new(compression::decompress(content)?);
        let mut made = Made::default();
        while let Some(entry) = stream.next_entry()? {
            // Some tools write layers with paths from the root.
            let start = entry.path.iter().position(|byte| *byte != b'/').unwrap_or(entry.path.len());
            let Some(path) = tree::clean(&entry.path[start..], b"")? else { continue };
            match Change::of(&path)? {
                Change::Thing => {
                    self.tree.give_way(&path, &entry.kind)?;
                    self.entry(&path, &entry, &mut stream.data())?;
                    made.insert(&path);
                }
                Change::Hides(path) => self.tree.hide(&path, &made)?,
                Change::Empties(directory) => self.tree.empty(&directory, &made)?,
                Change::Nothing => {}
            }
        }
        stream.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_are_told_from_things() {
        let of = |path: &str| Change::of(path.as_bytes());
        assert_eq!(of("etc/wh.x"), Ok(Change::Thing));
        assert_eq!(of(".wh.x"), Ok(Change::Hides(b"x".to_vec())));
        assert_eq!(of("a/b/.wh..x"), Ok(Change::Hides(b"a/b/.x".to_vec())));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Change::Empties(b"a".to_vec())));
        assert_eq!(of(".wh..wh..opq"), Ok(Change::Empties(Vec::new())));
        assert_eq!(of("a/.wh..wh.plnk"), Ok(Change::Nothing));
        for bad in ["a/.wh.", "a/.wh..", "a/.wh..."] {
            assert!(matches!(of(bad), Err(Refusal::Absurd { .. })), "{bad}");
        }
    }

    #[test]
    fn what_a_layer_made_has_directories() {
        let mut made = Made::default();
        made.insert(b"a/b/c");
        made.insert(b"a/d");
        for there in ["a/b/c", "a/b", "a", "a/d"] {
            assert!(made.contains(there.as_bytes()), "{there}");
        }
        assert!(!made.contains(b"a/b/c/d") && !made.contains(b"b"));
    }

    #[test]
    fn the_archive_of_layers_is_one_that_is_read() {
        let mut bytes = Vec::new();
        let mut feed = Feed::new(&mut bytes);
        feed.layer(0, 3, &b"abc"[..]).unwrap();
        feed.layer(1, 512, &[7; 600][..]).unwrap();
        assert!(feed.layer(2, 4, &b"abc"[..]).is_err());
        let mut bytes = Vec::new();
        let mut feed = Feed::new(&mut bytes);
        feed.layer(0, 3, &b"abc"[..]).unwrap();
        feed.end().unwrap();
        assert_eq!(bytes.len() as u64, Feed::<Vec<u8>>::length(3) + 1024);
        let mut stream = TarStream::new(&bytes[..]);
        let entry = stream.next_entry().unwrap().unwrap();
        assert!(is_layer(&entry.path, &entry));
        let mut content = Vec::new();
        stream.data().read_to_end(&mut content).unwrap();
        assert_eq!(content, b"abc");
        assert_eq!(stream.next_entry().unwrap(), None);
    }
}
