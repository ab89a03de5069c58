//! Checksums, as catalogs and distributions publish them.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::digest::DynDigest;

/// What a checksum is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5 (RFC 1321): tells accidents from the real thing, and nothing more.
    Md5,
    /// SHA-1 (FIPS 180-4): the same.
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// How it is called: `sha256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of such a checksum.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    pub(crate) fn hasher(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Md5 => Box::new(md5::Md5::default()),
            Self::Sha1 => Box::new(sha1::Sha1::default()),
            Self::Sha256 => Box::new(sha2::Sha256::default()),
            Self::Sha384 => Box::new(sha2::Sha384::default()),
            Self::Sha512 => Box::new(sha2::Sha512::default()),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidChecksum;
    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let plain = text.to_ascii_lowercase().replace('-', "");
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == plain);
        found.ok_or_else(|| InvalidChecksum::Algorithm(text.to_owned()))
    }
}

/// A text that is no checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChecksum {
    /// An algorithm that is not known.
    #[error("`{0}` is no kind of checksum: there are md5, sha1, sha256, sha384 and sha512")]
    Algorithm(String),
    /// Not as many hexadecimal digits as such a checksum has.
    #[error("`{text}` is no {algorithm} checksum: that has {} hexadecimal digits", algorithm.length() * 2)]
    Digits {
        /// What was given.
        text: String,
        /// What it was to be.
        algorithm: Algorithm,
    },
}

/// What a file's content comes to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Checksum {
    /// Takes the hexadecimal form.
    ///
    /// # Errors
    /// [`InvalidChecksum::Digits`].
    pub fn new(algorithm: Algorithm, hex: &str) -> Result<Self, InvalidChecksum> {
        let bytes = from_hex(hex.trim()).filter(|bytes| bytes.len() == algorithm.length());
        let bytes = bytes.ok_or_else(|| InvalidChecksum::Digits { text: hex.to_owned(), algorithm })?;
        Ok(Self { algorithm, bytes })
    }

    /// What `bytes` come to.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = algorithm.hasher();
        hasher.update(bytes);
        Self::from_bytes(algorithm, &hasher.finalize())
    }

    /// What all that `input` gives comes to; `advance` hears of each piece, bytes, and ends it by an error.
    ///
    /// # Errors
    /// Those of `input` and of `advance`.
    pub fn of_all(
        algorithm: Algorithm,
        mut input: impl Read,
        mut advance: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (mut hasher, mut piece) = (algorithm.hasher(), vec![0; 1 << 20]);
        loop {
            let count = match input.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                return Ok(Self::from_bytes(algorithm, &hasher.finalize()));
            }
            hasher.update(&piece[..count]);
            advance(count as u64)?;
        }
    }

    pub(crate) fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Self {
        Self { algorithm, bytes: bytes.to_vec() }
    }

    /// What it was made with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// `sha256:…` or `sha256=…`.
impl FromStr for Checksum {
    type Err = InvalidChecksum;
    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let (algorithm, hex) =
            text.split_once([':', '=']).ok_or_else(|| InvalidChecksum::Algorithm(text.to_owned()))?;
        Self::new(algorithm.parse()?, hex)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `abc`, from the standards' own examples.
    const ABC: [(&str, &str); 5] = [
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "sha384",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            "SHA-512",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];

    #[test]
    fn every_algorithm_is_the_standards() {
        for (name, hex) in ABC {
            let wanted: Checksum = format!("{name}:{hex}").parse().unwrap();
            assert_eq!(Checksum::of(wanted.algorithm(), b"abc"), wanted);
            assert_eq!(Checksum::of_all(wanted.algorithm(), &b"abc"[..], |_| Ok(())).unwrap(), wanted);
            assert_eq!(Checksum::new(wanted.algorithm(), &hex.to_uppercase()), Ok(wanted));
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for bad in
            ["", "abc", "crc32:00", "sha256:", "sha256:zz", "md5=ä0", "sha1:900150983cd24fb0d6963f7d28e17f72"]
        {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }
}
