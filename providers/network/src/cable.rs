//! A descriptor that carries Ethernet frames, one a read and one a write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};

/// Frames that wait for a cable that takes no more; further ones are lost, as in any network card.
const QUEUE: usize = 512;

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// The largest frame that can come in, bytes: the largest IP packet, its header and a VLAN tag.
pub(crate) const LARGEST: usize = 0xffff + ETHERNET + 4;

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A frame of this length is in the buffer.
    Frame(usize),
    /// Nothing more for now.
    Nothing,
    /// The other end is gone for good.
    Ended,
}

/// One end of a cable.
#[derive(Debug)]
pub(crate) struct Cable {
    fd: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
}

impl Cable {
    /// `fd` must not block.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, waiting: VecDeque::new() }
    }

    /// How much the other end can send before it is read and nothing of it is lost, bytes.
    ///
    /// A tap has a queue of a thousand frames, a socket pair makes its sender wait. A packet socket loses what does
    /// not fit its buffer, of which the kernel's own records take a half.
    pub(crate) fn room(&self) -> usize {
        match sockopt::socket_domain(&self.fd) {
            Ok(AddressFamily::PACKET) => sockopt::socket_recv_buffer_size(&self.fd).unwrap_or_default() / 2,
            _ => usize::MAX,
        }
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Received {
        loop {
            return match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(length) => Received::Frame(length),
                Err(Errno::INTR) => continue,
                // The interface has been removed, by itself or with its namespace; or the peer has closed.
                Err(
                    Errno::BADFD
                    | Errno::BADF
                    | Errno::NODEV
                    | Errno::NXIO
                    | Errno::NETDOWN
                    | Errno::CONNRESET,
                ) => Received::Ended,
                // An interface that is down (EIO) can come up again.
                Err(_) => Received::Nothing,
            };
        }
    }

    /// Whether the cable takes no more for now. Bulk senders hold back then, and go on after [`flush`](Self::flush).
    pub(crate) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, as far as the cable takes it.
    pub(crate) fn flush(&mut self) {
        while let Some(frame) = self.waiting.front() {
            if matches!(self.write(&[IoSlice::new(frame)]), Err(Errno::AGAIN)) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Sends one frame made of `parts`.
    pub(crate) fn send(&mut self, parts: &[IoSlice<'_>]) {
        if self.waiting.is_empty() && !matches!(self.write(parts), Err(Errno::AGAIN)) {
            return;
        }
        if self.waiting.len() < QUEUE {
            self.waiting.push_back(parts.iter().flat_map(|part| part.iter().copied()).collect());
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        loop {
            match rustix::io::writev(&self.fd, parts) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
