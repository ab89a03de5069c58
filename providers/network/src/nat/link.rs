//! The guest's cable: one frame a read, one frame a write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use posada_provider_api::network::management::GUEST;
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};

use super::wire::{self, ETHERNET, Fragment, IPV4};

/// Frames that wait for a cable that takes no more; further ones are lost, as in any network card.
const QUEUE: usize = 512;

/// What became of a read.
pub(super) enum Received {
    /// A frame of this length is in the buffer.
    Frame(usize),
    /// Nothing more for now.
    Nothing,
    /// The other end is gone for good.
    Ended,
}

/// One end of the cable.
pub(super) struct Link {
    fd: OwnedFd,
    /// The guest's address, as seen last.
    pub(super) guest_mac: [u8; 6],
    mtu: usize,
    queue: usize,
    waiting: VecDeque<Vec<u8>>,
    next_id: u16,
}

impl Link {
    pub(super) fn new(fd: OwnedFd, guest_mac: [u8; 6], mtu: u16) -> Self {
        // A tap has a queue of a thousand frames, a socket pair makes its sender wait. A packet socket loses what
        // does not fit its buffer, of which the kernel's own records take a half.
        let queue = match sockopt::socket_domain(&fd) {
            Ok(AddressFamily::PACKET) => sockopt::socket_recv_buffer_size(&fd).unwrap_or_default() / 2,
            _ => usize::MAX,
        };
        Self { fd, guest_mac, mtu: usize::from(mtu), queue, waiting: VecDeque::new(), next_id: 0 }
    }

    /// How much the guest can send before it is read and nothing of it is lost, bytes.
    pub(super) fn queue(&self) -> usize {
        self.queue
    }

    /// The largest IP packet the cable carries, bytes.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
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
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, as far as the cable takes it.
    pub(super) fn flush(&mut self) {
        while let Some(frame) = self.waiting.front() {
            if matches!(self.write(&[IoSlice::new(frame)]), Err(Errno::AGAIN)) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Sends one frame made of `parts`.
    pub(super) fn send(&mut self, parts: &[IoSlice<'_>]) {
        if self.waiting.is_empty() && !matches!(self.write(parts), Err(Errno::AGAIN)) {
            return;
        }
        if self.waiting.len() < QUEUE {
            self.waiting.push_back(parts.iter().flat_map(|part| part.iter().copied()).collect());
        }
    }

    /// Sends an IP packet to the guest, in fragments where it is larger than the cable carries.
    pub(super) fn send_ip(&mut self, source: Ipv4Addr, protocol: u8, payload: &[u8]) {
        self.send_ip_to(GUEST, source, protocol, payload);
    }

    /// Sends an IP packet addressed to `to`, which is the guest or everybody.
    pub(super) fn send_ip_to(&mut self, to: Ipv4Addr, source: Ipv4Addr, protocol: u8, payload: &[u8]) {
        let ethernet = wire::ethernet(self.guest_mac);
        let most = self.mtu - IPV4;
        self.next_id = self.next_id.wrapping_add(1);
        if payload.len() <= most {
            let fragment = Fragment { id: self.next_id, ..Fragment::default() };
            let header = wire::ipv4(source, to, protocol, payload.len() as u16, fragment);
            self.send(&[IoSlice::new(&ethernet), IoSlice::new(&header), IoSlice::new(payload)]);
            return;
        }
        let most = most & !7;
        let mut offset = 0;
        for part in payload.chunks(most) {
            let more = offset + part.len() < payload.len();
            let fragment = Fragment { id: self.next_id, offset: offset as u16, more };
            let header = wire::ipv4(source, to, protocol, part.len() as u16, fragment);
            self.send(&[IoSlice::new(&ethernet), IoSlice::new(&header), IoSlice::new(part)]);
            offset += part.len();
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

    /// The largest frame that can come in, bytes.
    pub(super) const LARGEST: usize = 0xffff + ETHERNET + 4;
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("fd", &self.fd)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
