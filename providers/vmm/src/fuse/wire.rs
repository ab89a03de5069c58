//! Messages as they lie in memory: all numbers little-endian, as host and guest are.

use rustix::io::Errno;

/// Bytes of the header of a request (`struct fuse_in_header`).
pub const REQUEST_HEADER: usize = 40;
/// Bytes of the header of a reply (`struct fuse_out_header`).
pub const REPLY_HEADER: usize = 16;
/// Bytes between a WRITE's header and its data (`struct fuse_write_in`).
pub const WRITE_ARGS: usize = 40;

/// What a request asks for (`enum fuse_opcode`).
pub mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const GETLK: u32 = 31;
    pub const SETLK: u32 = 32;
    pub const SETLKW: u32 = 33;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
}

/// The header of a request, as far as it is used.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Bytes of the request, this header's among them.
    pub len: u32,
    /// One of [`op`].
    pub opcode: u32,
    /// The request's number, for its reply.
    pub unique: u64,
    /// The inode it is about.
    pub node: u64,
}

impl Header {
    /// Reads it.
    pub fn parse(bytes: &[u8; REQUEST_HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self { len: word(0), opcode: word(4), unique: long(8), node: long(16) }
    }
}

/// What follows a request's header, read from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a>(&'a [u8]);

impl<'a> Args<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = tail;
        Ok(*head)
    }

    pub fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    /// Passes over padding and what is of no use.
    pub fn skip(&mut self, count: usize) -> Result<(), Errno> {
        self.0 = self.0.get(count..).ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// A text up to its NUL.
    pub fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(text)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = tail;
        Ok(head)
    }
}

/// What follows a reply's header.
#[derive(Debug, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Zeroes up to a length of `len`.
    pub fn pad(&mut self, len: usize) -> &mut Self {
        self.0.resize(len.max(self.0.len()), 0);
        self
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// The header of the reply to request `unique`, which has `body` bytes behind it.
pub fn reply_header(unique: u64, error: Option<Errno>, body: usize) -> [u8; REPLY_HEADER] {
    let mut header = [0; REPLY_HEADER];
    let len = u32::try_from(REPLY_HEADER + body).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..8].copy_from_slice(&error.map_or(0, |error| -error.raw_os_error()).to_le_bytes());
    header[8..].copy_from_slice(&unique.to_le_bytes());
    header
}
