//! Socket pairs between the monitor and those who serve it in the same process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Wished for in each direction of a network cable, bytes; the host may give less.
const BUFFER: usize = 1 << 20;

/// A network cable: each message is an Ethernet frame.
pub(crate) fn frames() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = pair(SocketType::SEQPACKET)?;
    for end in [&one, &other] {
        // With less room frames only wait sooner.
        let _ = set_socket_send_buffer_size(end, BUFFER);
    }
    Ok((one, other))
}

/// A serial cable.
pub(crate) fn bytes() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}
