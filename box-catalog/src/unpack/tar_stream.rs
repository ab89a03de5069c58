//! A tar archive read as a stream: ustar, GNU and pax, with long names, extended attributes and sparse files.
//!
//! Header fields are the `tar` crate's; the walk is ours, because what an archive may make us keep in memory has
//! to be bounded, and because all three forms of sparse files are wanted.
//! Formats: POSIX.1-2017 `pax`, and "Basic Tar Format" and "Storing Sparse Files" in GNU tar's manual.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::pax::{Pax, parse_pax};
use super::refusal::Refusal;
use super::sparse::{self, Extent};

const BLOCK: usize = 512;
/// Most bytes a pax header or a GNU long name may have.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of `size` bytes; only `extents` of it are in the archive, the rest is holes.
    File { size: u64, extents: Vec<Extent> },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A further name of a file that came before.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A block or character device.
    Device,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path as it stands there.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive being read.
pub struct TarStream<R> {
    input: R,
    /// Bytes of the current entry's data still to come.
    data: u64,
    /// Bytes that pad it to whole blocks.
    padding: u64,
    ended: bool,
}

impl<R: Read> TarStream<R> {
    pub fn new(input: R) -> Self {
        Self { input, data: 0, padding: 0, ended: false }
    }

    /// The next entry; what was not read of the last one's data is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Refusal> {
        let (mut pax, mut long_name, mut long_link) = (Pax::default(), None, None);
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| Refusal::Corrupt(error.to_string()))?;
            match header.entry_type() {
                EntryType::XHeader => pax = parse_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                // A volume's label, which makes nothing.
                other if other.as_byte() == b'V' => drop(self.extension(size)?),
                EntryType::GNULongName => long_name = Some(text(self.extension(size)?)),
                EntryType::GNULongLink => long_link = Some(text(self.extension(size)?)),
                _ => return self.entry(&header, size, pax, long_name, long_link).map(Some),
            }
        }
    }

    /// The data of the current entry.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { stream: self }
    }

    /// Reads on to the very end, so that what comes after the archive's end is checked and counted as well.
    pub fn drain(mut self) -> Result<(), Refusal> {
        io::copy(&mut self.input, &mut io::sink()).map(drop).map_err(|error| Refusal::reading(&error))
    }

    fn entry(
        &mut self,
        header: &Header,
        header_size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, Refusal> {
        let path = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.or(long_link).or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let link = || link.clone().ok_or_else(|| Refusal::absurd(&path, "no link target"));
        let stored = pax.size.unwrap_or(header_size);
        let bad = |error: io::Error| Refusal::Corrupt(error.to_string());
        let mut sparse_path = None;
        let kind = match header.entry_type() {
            EntryType::GNUSparse => {
                self.begin(stored, &path)?;
                let map = sparse::gnu_map(header, || self.block())?;
                Kind::File { size: map.size, extents: map.checked(stored, &path)? }
            }
            EntryType::Regular | EntryType::Continuous if header.path_bytes().ends_with(b"/") => {
                self.begin(0, &path)?;
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous => {
                self.begin(stored, &path)?;
                match pax.sparse {
                    Some(described) => {
                        let (name, map) = described.resolve(&mut self.data(), &path)?;
                        sparse_path = name;
                        Kind::File { size: map.size, extents: map.checked(self.data, &path)? }
                    }
                    None => Kind::File { size: stored, extents: sparse::whole(stored) },
                }
            }
            other => {
                // Directories may have a size in old archives; links have none whatever the header says.
                self.begin(0, &path)?;
                match other {
                    EntryType::Directory => Kind::Directory,
                    EntryType::Symlink => Kind::Symlink(link()?),
                    EntryType::Link => Kind::Hardlink(link()?),
                    EntryType::Fifo => Kind::Fifo,
                    EntryType::Char | EntryType::Block => Kind::Device,
                    other => {
                        return Err(Refusal::absurd(
                            &path,
                            format!("the unknown type {:?}", other.as_byte() as char),
                        ));
                    }
                }
            }
        };
        Ok(Entry {
            kind,
            mode: header.mode().map_err(bad)? & 0o7777,
            uid: pax.uid.map_or_else(|| header.uid(), Ok).map_err(bad)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok).map_err(bad)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => (i64::try_from(header.mtime().map_err(bad)?).unwrap_or(0), 0),
            },
            xattrs: pax.xattrs,
            path: sparse_path.unwrap_or(path),
        })
    }

    fn begin(&mut self, size: u64, path: &[u8]) -> Result<(), Refusal> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.ok_or_else(|| Refusal::absurd(path, format!("a size of {size} bytes")))?;
        self.data = size;
        self.padding = padded - size;
        Ok(())
    }

    fn pass_over(&mut self) -> Result<(), Refusal> {
        let rest = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        let passed = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink());
        match passed.map_err(|error| Refusal::reading(&error))? {
            passed if passed == rest => Ok(()),
            _ => Err(Refusal::Truncated),
        }
    }

    /// A header block, or `None` at the block of zeros that ends an archive.
    fn header(&mut self) -> Result<Option<Header>, Refusal> {
        if self.ended {
            return Ok(None);
        }
        let block = self.block()?;
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        if !checksum_holds(&block) {
            return Err(Refusal::Corrupt("a header's checksum is wrong".to_owned()));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Refusal> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| Refusal::reading(&error))?;
        Ok(block)
    }

    /// The data of an entry that only describes the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Refusal> {
        if size > MAX_EXTENSION {
            return Err(Refusal::Corrupt(format!("a header of {size} bytes")));
        }
        self.begin(size, b"")?;
        let mut bytes = vec![0; size as usize];
        self.data().read_exact(&mut bytes).map_err(|error| Refusal::reading(&error))?;
        Ok(bytes)
    }
}

/// A long name without the zero that ends it.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Whether a header block's checksum is right; it is counted with the checksum itself as blanks.
pub(super) fn checksum_holds(block: &[u8]) -> bool {
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stored| stored == sum)
}

/// The data of one entry, as far as the archive has it.
pub struct Data<'a, R> {
    stream: &'a mut TarStream<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.stream.data).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.stream.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.stream.data -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::Builder;

    use super::*;

    /// An archive with an entry of most kinds, a long name and a pax header among them.
    fn archive() -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let header = |kind, size| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(0o644);
            header.set_uid(1000);
            header.set_gid(1000);
            header.set_mtime(1_700_000_000);
            header
        };
        builder.append_data(&mut header(EntryType::Directory, 0), "etc", &b""[..]).unwrap();
        builder.append_pax_extensions([("SCHILY.xattr.user.a", &b"b"[..]), ("mtime", &b"1.5"[..])]).unwrap();
        builder.append_data(&mut header(EntryType::Regular, 5), "etc/hello", &b"hello"[..]).unwrap();
        builder.append_link(&mut header(EntryType::Symlink, 0), "etc/link", "hello").unwrap();
        builder.append_data(&mut header(EntryType::Regular, 700), "n".repeat(150), &[7; 700][..]).unwrap();
        builder.append_link(&mut header(EntryType::Link, 0), "etc/hard", "etc/hello").unwrap();
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Refusal> {
        let mut stream = TarStream::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = stream.next_entry()? {
            let mut data = Vec::new();
            stream.data().read_to_end(&mut data).map_err(|error| Refusal::reading(&error))?;
            entries.push((entry, data));
        }
        Ok(entries)
    }

    #[test]
    fn entries_come_with_their_data() {
        let entries = read(&archive()).unwrap();
        let paths: Vec<&[u8]> = entries.iter().map(|(entry, _)| &entry.path[..]).collect();
        let long = "n".repeat(150);
        assert_eq!(paths, [&b"etc"[..], b"etc/hello", b"etc/link", long.as_bytes(), b"etc/hard"]);
        let (hello, data) = &entries[1];
        assert_eq!(
            (hello.mode, hello.uid, hello.mtime, &data[..]),
            (0o644, 1000, (1, 500_000_000), &b"hello"[..])
        );
        assert_eq!(hello.xattrs, [(b"user.a".to_vec(), b"b".to_vec())]);
        assert_eq!(entries[2].0.kind, Kind::Symlink(b"hello".to_vec()));
        assert_eq!(entries[3].1, [7; 700]);
        assert_eq!(entries[4].0.kind, Kind::Hardlink(b"etc/hello".to_vec()));
    }

    #[test]
    fn data_that_is_not_read_is_passed_over() {
        let bytes = archive();
        let mut stream = TarStream::new(&bytes[..]);
        let mut count = 0;
        while stream.next_entry().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 5);
        stream.drain().unwrap();
    }

    fn with_checksum(mut bytes: Vec<u8>, block: usize) -> Vec<u8> {
        let header = &mut bytes[block * BLOCK..][..BLOCK];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    }

    proptest! {
        /// Bytes changed anywhere, with a checksum that holds again, so that the damage gets in.
        #[test]
        fn damage_is_an_error_or_another_archive_but_never_a_panic(
            block in 0usize..12, changes in proptest::collection::vec((0usize..BLOCK, any::<u8>()), 1..6)
        ) {
            let mut bytes = archive();
            let block = block % (bytes.len() / BLOCK);
            for (at, value) in changes {
                bytes[block * BLOCK + at] = value;
            }
            crate::fuzzing::archive(&with_checksum(bytes, block));
        }

        #[test]
        fn a_cut_is_told(end in 0usize..4000) {
            let bytes = archive();
            let whole = bytes.len() - 2 * BLOCK;
            prop_assume!(end < whole);
            prop_assert_eq!(read(&bytes[..end]), Err(Refusal::Truncated));
        }
    }
}
