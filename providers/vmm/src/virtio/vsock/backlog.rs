//! What the guest has sent and the host has not taken yet.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::virtio::buffers::Buffers;

/// The host's end takes no more, ever.
pub(super) struct Closed;

/// Bytes that wait for a socket. Who fills it bounds it.
#[derive(Default)]
pub(super) struct Backlog(VecDeque<u8>);

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }

    /// Sends `data` after what waits already, and keeps what the socket does not take; returns how many bytes have
    /// gone.
    pub(super) fn push(&mut self, stream: &OwnedFd, mut data: Buffers) -> Result<usize, Closed> {
        let mut gone = self.flush(stream)?;
        while self.0.is_empty() && !data.is_empty() {
            match data.send_to(stream) {
                Ok(length) => {
                    data.skip(length);
                    gone += length;
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => break,
                    _ => return Err(Closed),
                },
            }
        }
        let mut rest = vec![0; data.len()];
        data.read_at(0, &mut rest);
        self.0.extend(rest);
        Ok(gone)
    }

    /// Sends what waits, as much as the socket takes; returns how many bytes have gone.
    pub(super) fn flush(&mut self, stream: &OwnedFd) -> Result<usize, Closed> {
        let mut gone = 0;
        while !self.0.is_empty() {
            match send(stream, self.0.as_slices().0, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.0.drain(..length);
                    gone += length;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(gone),
                Err(_) => return Err(Closed),
            }
        }
        if gone > 0 {
            // A quiet connection keeps no memory.
            self.clear();
        }
        Ok(gone)
    }
}
