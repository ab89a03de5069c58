//! What [`Dial`](super::Dial) hands out, made ready for the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixStream};

use crate::watch::watch;

/// Big enough that a bulk transfer spends its time in the kernel, small enough for a thousand connections.
const COPY_BUFFER: usize = 64 * 1024;

/// A stream into the machine: the kernel's own TCP, or one end of a socket pair.
pub(super) enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Inner {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        if rustix::net::sockopt::socket_domain(&fd)? == AddressFamily::UNIX {
            return Ok(Self::Unix(UnixStream::from_std(fd.into())?));
        }
        let stream = TcpStream::from_std(fd.into())?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Carries bytes both ways until both sides have closed; one closed side leaves the other open.
    /// A side that is reset resets the other.
    pub(super) async fn relay(mut self, mut client: TcpStream) {
        let result = match &mut self {
            Self::Tcp(stream) => {
                copy_bidirectional_with_sizes(&mut client, stream, COPY_BUFFER, COPY_BUFFER).await
            }
            Self::Unix(stream) => {
                copy_bidirectional_with_sizes(&mut client, stream, COPY_BUFFER, COPY_BUFFER).await
            }
        };
        if result.is_err() {
            reset_on_close(&client);
            if let Self::Tcp(stream) = &self {
                reset_on_close(stream);
            }
        }
    }
}

/// Lets the peer see a reset, not an orderly end, when `socket` is closed.
pub(super) fn reset_on_close(socket: &impl AsFd) {
    // Where the socket is dead already there is nobody left to tell.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Datagrams into the machine and back.
pub(super) struct Datagrams {
    fd: AsyncFd<OwnedFd>,
    /// A socket pair tells with an empty datagram that its other end is closed; UDP can carry empty ones.
    empty_is_end: bool,
}

impl Datagrams {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let empty_is_end = rustix::net::sockopt::socket_domain(&fd)? == AddressFamily::UNIX;
        Ok(Self { fd: watch(fd)?, empty_is_end })
    }

    pub(super) async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.fd
            .async_io(Interest::WRITABLE, |fd| Ok(rustix::net::send(fd, datagram, SendFlags::NOSIGNAL)?))
            .await
    }

    pub(super) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self
            .fd
            .async_io(Interest::READABLE, |fd| Ok(rustix::net::recv(fd, &mut *buffer, RecvFlags::empty())?.0))
            .await?;
        if length == 0 && self.empty_is_end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}
