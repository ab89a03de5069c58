//! The buffers of a chain as the host's system calls take them, so that data moves between a descriptor and the
//! guest's memory without a copy in between.

use std::io;
use std::sync::Arc;

use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::queue::Chain;
use crate::memory::GuestRam;

/// What a driver can do wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A buffer does not lie in memory.
    #[error("a buffer lies outside of memory")]
    Outside,
    /// A device-readable buffer follows a device-writable one (virtio 1.2, section 2.7.4.2).
    #[error("a readable buffer follows a writable one")]
    Order,
    /// All buffers together are too long, or too many.
    #[error("the chain is too long")]
    TooLong,
}

/// Most parts that one call takes (IOV_MAX).
const MOST_PARTS: usize = 1024;

/// Pieces of guest memory, in order. Holds on to the memory they lie in.
#[derive(Clone)]
pub struct Buffers {
    parts: Vec<libc::iovec>,
    length: usize,
    ram: Arc<GuestRam>,
}

// SAFETY: the pointers lead into `ram`, which is shared between threads anyway and lives as long as this does; the
// memory is the guest's, and nobody on the host relies on what is in it.
unsafe impl Send for Buffers {}

impl Buffers {
    /// No pieces yet.
    #[must_use]
    pub fn new(ram: Arc<GuestRam>) -> Self {
        Self { parts: Vec::new(), length: 0, ram }
    }

    /// Adds `length` bytes of guest memory at `address`.
    ///
    /// # Errors
    /// [`ChainError::Outside`], [`ChainError::TooLong`].
    pub fn add(&mut self, address: GuestAddress, length: usize) -> Result<(), ChainError> {
        let total = self.length.checked_add(length).ok_or(ChainError::TooLong)?;
        for slice in self.ram.get_slices(address, length) {
            let slice = slice.map_err(|_| ChainError::Outside)?;
            if self.parts.len() == MOST_PARTS {
                return Err(ChainError::TooLong);
            }
            let start = slice.ptr_guard_mut().as_ptr();
            self.parts.push(libc::iovec { iov_base: start.cast(), iov_len: slice.len() });
        }
        self.length = total;
        Ok(())
    }

    /// How many bytes all pieces hold.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is room for no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, for a system call.
    #[must_use]
    pub fn parts(&self) -> &[libc::iovec] {
        &self.parts
    }

    /// Appends the pieces of `other`, which lie in the same memory.
    pub fn append(&mut self, other: &Self) {
        self.parts.extend_from_slice(&other.parts);
        self.length += other.length;
    }

    /// All but the first `count` bytes, in pieces of its own.
    #[must_use]
    pub fn tail(&self, count: usize) -> Self {
        let mut tail = Self { parts: self.parts.clone(), length: self.length, ram: Arc::clone(&self.ram) };
        tail.skip(count);
        tail
    }

    /// Empties it, keeping its allocation.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.length = 0;
    }

    /// Leaves out the first `count` bytes.
    pub fn skip(&mut self, mut count: usize) {
        count = count.min(self.length);
        self.length -= count;
        let whole = self
            .parts
            .iter()
            .take_while(|part| {
                let covered = part.iov_len <= count;
                if covered {
                    count -= part.iov_len;
                }
                covered
            })
            .count();
        self.parts.drain(..whole);
        if count > 0 {
            let first = &mut self.parts[0];
            // SAFETY: `count` is less than the part's length, so the result stays inside of it.
            first.iov_base = unsafe { first.iov_base.cast::<u8>().add(count) }.cast();
            first.iov_len -= count;
        }
    }

    /// Leaves out all behind the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        if length >= self.length {
            return;
        }
        let mut left = length;
        let mut kept = 0;
        for part in &mut self.parts {
            if left == 0 {
                break;
            }
            part.iov_len = part.iov_len.min(left);
            left -= part.iov_len;
            kept += 1;
        }
        self.parts.truncate(kept);
        self.length = length;
    }

    /// Copies `bytes` to the place `offset` bytes from the start, as far as there is room; returns how many.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> usize {
        self.each(offset, bytes.len(), |at, part, length| {
            // SAFETY: `part` is `length` bytes of guest memory that is mapped as long as `ram` lives; `bytes` is the
            // host's and does not overlap it.
            unsafe { std::ptr::copy_nonoverlapping(bytes[at..].as_ptr(), part, length) };
        })
    }

    /// Copies what lies `offset` bytes from the start into `bytes`; returns how many.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> usize {
        let wanted = bytes.len();
        let start = bytes.as_mut_ptr();
        self.each(offset, wanted, |at, part, length| {
            // SAFETY: as in `write_at`; `at + length` is at most `wanted`.
            unsafe { std::ptr::copy_nonoverlapping(part.cast_const(), start.add(at), length) };
        })
    }

    fn each(&self, mut offset: usize, wanted: usize, mut take: impl FnMut(usize, *mut u8, usize)) -> usize {
        let mut done = 0;
        for part in &self.parts {
            if done == wanted {
                break;
            }
            if offset >= part.iov_len {
                offset -= part.iov_len;
                continue;
            }
            let length = (part.iov_len - offset).min(wanted - done);
            // SAFETY: `offset` is less than the part's length.
            take(done, unsafe { part.iov_base.cast::<u8>().add(offset) }, length);
            done += length;
            offset = 0;
        }
        done
    }

    /// Reads from `fd` into the pieces, one message or as many bytes as there are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_from(&self, fd: &impl std::os::fd::AsRawFd) -> io::Result<usize> {
        // SAFETY: each part is guest memory, mapped as long as `ram` lives.
        let read =
            unsafe { libc::readv(fd.as_raw_fd(), self.parts.as_ptr(), self.parts.len() as libc::c_int) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes the pieces to `fd`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write_to(&self, fd: &impl std::os::fd::AsRawFd) -> io::Result<usize> {
        // SAFETY: as in `read_from`.
        let written =
            unsafe { libc::writev(fd.as_raw_fd(), self.parts.as_ptr(), self.parts.len() as libc::c_int) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Reads from `fd` at `offset` into the pieces.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_from_at(&self, fd: &impl std::os::fd::AsRawFd, offset: u64) -> io::Result<usize> {
        let (parts, count) = (self.parts.as_ptr(), self.parts.len() as libc::c_int);
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: as in `read_from`.
        let read = unsafe { libc::preadv(fd.as_raw_fd(), parts, count, offset) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes the pieces to `fd` at `offset`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write_to_at(&self, fd: &impl std::os::fd::AsRawFd, offset: u64) -> io::Result<usize> {
        let (parts, count) = (self.parts.as_ptr(), self.parts.len() as libc::c_int);
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: as in `read_from`.
        let written = unsafe { libc::pwritev(fd.as_raw_fd(), parts, count, offset) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Sends the pieces by the socket `fd`; one whose other end is gone is an error and no signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send_to(&self, fd: &impl std::os::fd::AsRawFd) -> io::Result<usize> {
        // SAFETY: all zeroes is a message of nothing.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.parts.as_ptr().cast_mut();
        message.msg_iovlen = self.parts.len() as _;
        // SAFETY: as in `read_from`; the kernel writes to none of it.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// A chain, taken apart.
pub struct Split {
    /// Names the chain when it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffers,
    /// What the device may write.
    pub writable: Buffers,
}

impl Split {
    /// Takes `chain` apart.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn new(chain: Chain, ram: &Arc<GuestRam>) -> Result<Self, ChainError> {
        let head = chain.head_index();
        let mut split =
            Self { head, readable: Buffers::new(ram.clone()), writable: Buffers::new(ram.clone()) };
        let mut add = |descriptor: Descriptor| {
            let length = descriptor.len() as usize;
            if descriptor.is_write_only() {
                split.writable.add(descriptor.addr(), length)
            } else if split.writable.parts.is_empty() {
                split.readable.add(descriptor.addr(), length)
            } else {
                Err(ChainError::Order)
            }
        };
        for descriptor in chain {
            add(descriptor)?;
        }
        Ok(split)
    }
}
