//! One connection of the guest with the socket that carries it on.

use std::io::IoSlice;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use posada_provider_api::network::management::GUEST;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};

use super::DialReply;
use super::connection::{BUFFER, Connection, Terms};
use super::segment::{self, Outgoing};
use crate::nat::ends::Ends;
use crate::nat::icmp;
use crate::nat::outside::Outside;
use crate::nat::wire::{self, protocol};

/// What one connection may read of the host before others get their turn, bytes.
const TURN: usize = 256 * 1024;
/// One connection with its host's side.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) ends: Ends,
    pub(super) guest_side: Connection,
    pub(super) host: OwnedFd,
    /// The host is still being reached.
    pub(super) connecting: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The host knows that the guest has sent its last byte.
    pub(super) shut: bool,
    pub(super) queued: bool,
    /// The earliest entry among the timers.
    pub(super) armed: Option<Instant>,
    pub(super) dial: Option<(DialReply, OwnedFd)>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    Live,
    Gone,
}

impl Flow {
    /// Hands what the guest sent to the host; what the host does not take yet is kept.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while self.writable && !bytes.is_empty() && self.guest_side.to_host.is_empty() {
            match rustix::net::send(&self.host, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                // Other errors come again, and are acted on, when what is kept is sent.
                Err(_) => self.writable = false,
            }
        }
        self.guest_side.to_host.push(bytes);
    }

    /// Moves what can be moved. Returns whether more could be at once.
    pub(super) fn work(&mut self, outside: &mut Outside<'_>) -> Result<(Fate, bool), Errno> {
        if self.connecting {
            return Ok((Fate::Live, false));
        }
        self.send_to_host()?;
        let mut budget = TURN;
        loop {
            let read = self.read_from_host(&mut budget)?;
            while !outside.link.is_full()
                && let Some(segment) = self.guest_side.poll(outside.now)
            {
                let payload = self.guest_side.to_guest.range(segment.offset, segment.len);
                send(outside, self.ends, &segment, payload);
            }
            if !read || budget == 0 || outside.link.is_full() {
                break;
            }
        }
        if self.guest_side.is_done() {
            return Ok((Fate::Gone, false));
        }
        let room = self.guest_side.to_guest.room() > 0 && !self.guest_side.host_is_done();
        Ok((Fate::Live, self.readable && room && self.guest_side.is_open()))
    }

    fn send_to_host(&mut self) -> Result<(), Errno> {
        while self.writable && !self.guest_side.to_host.is_empty() {
            match rustix::io::writev(&self.host, &self.guest_side.to_host.slices()) {
                Ok(sent) => self.guest_side.to_host.consume(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if self.guest_side.guest_is_done() && !self.shut {
            self.shut = true;
            match rustix::net::shutdown(&self.host, Shutdown::Write) {
                // The other side has closed everything already.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads of the host what there is room for. Returns whether there was something.
    fn read_from_host(&mut self, budget: &mut usize) -> Result<bool, Errno> {
        let mut any = false;
        while self.readable
            && *budget > 0
            && self.guest_side.is_open()
            && !self.guest_side.host_is_done()
            && self.guest_side.to_guest.room() > 0
        {
            let host = &self.host;
            let read = self.guest_side.to_guest.fill(|slices| Ok(rustix::io::readv(host, slices)?));
            match read.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)) {
                Ok(0) => self.guest_side.finish(),
                Ok(count) => {
                    any = true;
                    *budget = budget.saturating_sub(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// Lets the host's peer see a reset when the socket is closed.
    pub(super) fn abort_host(&self) {
        // A socket pair knows no resets; its peer sees the end of the stream.
        let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
    }
}

pub(super) fn our_terms(outside: &Outside<'_>) -> Terms {
    Terms {
        mss: (outside.link.mtu() - wire::IPV4 - segment::HEADER) as u16,
        window: outside.link.room().min(BUFFER) as u32,
    }
}

pub(super) fn stream_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Starts to connect. Returns whether the connection is still under way.
pub(super) fn connect(to: SocketAddrV4) -> Result<(OwnedFd, bool), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A peer that has vanished is found out in the end, also where both sides are silent.
    sockopt::set_socket_keepalive(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok((socket, false)),
        Err(Errno::INPROGRESS) => Ok((socket, true)),
        Err(error) => Err(error),
    }
}

/// Tells the guest why the host could not be reached.
pub(super) fn refuse_as(error: Errno, ends: Ends, guest_side: &Connection, outside: &mut Outside<'_>) {
    let code = match error {
        Errno::NETUNREACH => icmp::Unreachable::Network,
        Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::HOSTDOWN => icmp::Unreachable::Host,
        Errno::ACCESS | Errno::PERM => icmp::Unreachable::Prohibited,
        _ => return send(outside, ends, &guest_side.reset(), [&[], &[]]),
    };
    let mut start = [0; 8];
    start[..2].copy_from_slice(&ends.guest.to_be_bytes());
    start[2..4].copy_from_slice(&ends.remote.1.to_be_bytes());
    start[4..].copy_from_slice(&guest_side.guest_initial().to_be_bytes());
    icmp::unreachable(outside.link, code, ends.remote.0, protocol::TCP, segment::HEADER as u16, start);
}

pub(super) fn send(outside: &mut Outside<'_>, ends: Ends, segment: &Outgoing, payload: [&[u8]; 2]) {
    let (header, length) = segment.header(ends.remote, (GUEST, ends.guest), payload);
    let total = (length + payload[0].len() + payload[1].len()) as u16;
    let ip = wire::ipv4(ends.remote.0, GUEST, protocol::TCP, total, wire::Fragment::default());
    let ethernet = wire::ethernet(outside.link.guest_mac);
    outside.link.send(&[
        IoSlice::new(&ethernet),
        IoSlice::new(&ip),
        IoSlice::new(&header[..length]),
        IoSlice::new(payload[0]),
        IoSlice::new(payload[1]),
    ]);
}
