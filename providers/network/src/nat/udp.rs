//! UDP of the guest, carried on by connected sockets of the host: one for each pair of ends, so that only answers of
//! who was asked come back, and errors do too.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use posada_provider_api::network::management::{GATEWAY, GUEST};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use smoltcp::wire::UdpPacket;

use super::address::{Destination, destination};
use super::dhcp;
use super::ends::{Ends, Ports};
use super::epoll::Kind;
use super::icmp;
use super::link::Link;
use super::outside::Outside;
use super::wire::{self, protocol};

/// How long an association lives without traffic: the times of Linux's own connection tracking.
const IDLE_UNANSWERED: Duration = Duration::from_secs(30);
const IDLE_ANSWERED: Duration = Duration::from_secs(120);

/// What one association may deliver before others get their turn, datagrams.
const TURN: usize = 64;

const DNS_PORT: u16 = 53;

#[derive(Debug)]
struct Association {
    ends: Ends,
    host: OwnedFd,
    /// A socket pair tells with an empty datagram that its other end is closed; UDP can carry empty ones.
    empty_is_end: bool,
    used: Instant,
    answered: bool,
    /// Payload length of the guest's last datagram.
    last_length: usize,
}

/// All UDP associations.
#[derive(Debug)]
pub(super) struct Udp {
    associations: HashMap<u64, Association>,
    by_ends: HashMap<Ends, u64>,
    most: usize,
    next_id: u64,
    ports: Ports,
    /// Those with more to read than one turn allows.
    unread: Vec<u64>,
}

impl Udp {
    /// No associations yet, and never more than `most`: the one that has been silent longest makes room.
    pub(super) fn new(most: usize) -> Self {
        Self {
            associations: HashMap::new(),
            by_ends: HashMap::new(),
            most,
            next_id: 0,
            ports: Ports::new(),
            unread: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.associations.len()
    }

    /// Takes a datagram that the guest sent to `address`.
    pub(super) fn on_packet(
        &mut self,
        address: Ipv4Addr,
        packet: &[u8],
        dhcp: &dhcp::Server,
        outside: &mut Outside<'_>,
    ) {
        let Ok(view) = UdpPacket::new_checked(packet) else { return };
        let payload = view.payload();
        if view.dst_port() == dhcp::SERVER_PORT && (address.is_broadcast() || address == GATEWAY) {
            if let Some(answer) = dhcp.answer(payload) {
                send(
                    outside.link,
                    (GATEWAY, dhcp::SERVER_PORT),
                    answer.destination,
                    dhcp::CLIENT_PORT,
                    &answer.payload,
                );
            }
            return;
        }
        let ends = Ends { guest: view.src_port(), remote: (address, view.dst_port()) };
        let to = match destination(address) {
            Destination::Nowhere => return,
            Destination::Resolver if view.dst_port() == DNS_PORT => {
                outside.resolver.serve_datagram(ends.guest, payload);
                return;
            }
            Destination::Resolver => {
                return refuse(outside.link, ends, payload.len(), icmp::Unreachable::Port);
            }
            Destination::Host(to) => SocketAddrV4::new(to, view.dst_port()),
        };
        if let Err(error) = self.forward(ends, to, payload, outside) {
            let code = match error {
                Errno::CONNREFUSED => icmp::Unreachable::Port,
                Errno::NETUNREACH => icmp::Unreachable::Network,
                Errno::HOSTUNREACH => icmp::Unreachable::Host,
                Errno::ACCESS | Errno::PERM => icmp::Unreachable::Prohibited,
                // No room, now or ever: UDP loses datagrams.
                _ => return,
            };
            refuse(outside.link, ends, payload.len(), code);
        }
    }

    fn forward(
        &mut self,
        ends: Ends,
        to: SocketAddrV4,
        payload: &[u8],
        outside: &mut Outside<'_>,
    ) -> Result<(), Errno> {
        let id = match self.by_ends.get(&ends) {
            Some(id) => *id,
            None => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
                rustix::net::connect(&socket, &to)?;
                self.insert(ends, socket, false, outside)?
            }
        };
        let Some(association) = self.associations.get_mut(&id) else { return Ok(()) };
        association.used = outside.now;
        association.last_length = payload.len();
        match rustix::net::send(&association.host, payload, SendFlags::NOSIGNAL) {
            // The error is that of an earlier datagram, and is told when it is read.
            Err(Errno::CONNREFUSED) => {
                rustix::net::send(&association.host, payload, SendFlags::NOSIGNAL).map(drop)
            }
            result => result.map(drop),
        }
    }

    /// Opens a way to a UDP port of the guest, and returns the other end of it.
    pub(super) fn dial(&mut self, port: u16, outside: &mut Outside<'_>) -> Result<OwnedFd, Errno> {
        let ends = self.ports.next(port, |ends| self.by_ends.contains_key(ends)).ok_or(Errno::ADDRINUSE)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let id = self.insert(ends, ours, true, outside)?;
        if let Some(association) = self.associations.get_mut(&id) {
            association.answered = true;
        }
        Ok(theirs)
    }

    fn insert(
        &mut self,
        ends: Ends,
        host: OwnedFd,
        empty_is_end: bool,
        outside: &mut Outside<'_>,
    ) -> Result<u64, Errno> {
        if self.associations.len() >= self.most
            && let Some(oldest) = self.associations.iter().min_by_key(|(_, a)| a.used).map(|(id, _)| *id)
        {
            self.remove(oldest);
        }
        self.next_id += 1;
        outside.epoll.add(&host, Kind::Udp, self.next_id)?;
        let association =
            Association { ends, host, empty_is_end, used: outside.now, answered: false, last_length: 0 };
        self.associations.insert(self.next_id, association);
        self.by_ends.insert(ends, self.next_id);
        Ok(self.next_id)
    }

    /// Datagrams for the guest have come.
    pub(super) fn on_ready(&mut self, id: u64, buffer: &mut [u8], outside: &mut Outside<'_>) {
        let Some(association) = self.associations.get_mut(&id) else { return };
        let ends = association.ends;
        for _ in 0..TURN {
            match rustix::net::recv(&association.host, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) if association.empty_is_end => {
                    self.remove(id);
                    return;
                }
                Ok((length, _)) => {
                    association.used = outside.now;
                    association.answered = true;
                    send(outside.link, ends.remote, GUEST, ends.guest, &buffer[..length]);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNREFUSED) => {
                    refuse(outside.link, ends, association.last_length, icmp::Unreachable::Port);
                }
                Err(Errno::HOSTUNREACH) => {
                    refuse(outside.link, ends, association.last_length, icmp::Unreachable::Host);
                }
                Err(Errno::CONNRESET) => {
                    self.remove(id);
                    return;
                }
                Err(_) => {}
            }
        }
        self.unread.push(id);
    }

    /// Goes on with those that had more than a turn allows. Returns whether there are any left.
    pub(super) fn work(&mut self, buffer: &mut [u8], outside: &mut Outside<'_>) -> bool {
        for id in std::mem::take(&mut self.unread) {
            self.on_ready(id, buffer, outside);
        }
        !self.unread.is_empty()
    }

    /// Forgets associations that have been silent for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        let is_old = |a: &Association| {
            // A dialled one lives as long as its other end.
            let idle = if a.answered { IDLE_ANSWERED } else { IDLE_UNANSWERED };
            !a.empty_is_end && now.duration_since(a.used) >= idle
        };
        let old: Vec<u64> = self.associations.iter().filter(|(_, a)| is_old(a)).map(|(id, _)| *id).collect();
        for id in old {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(association) = self.associations.remove(&id) {
            self.by_ends.remove(&association.ends);
        }
    }
}

/// Sends a datagram to a port of the guest.
pub(super) fn send(link: &mut Link, from: (Ipv4Addr, u16), to: Ipv4Addr, port: u16, payload: &[u8]) {
    if let Some(datagram) = wire::udp(from, (to, port), payload) {
        link.send_ip_to(to, from.0, protocol::UDP, &datagram);
    }
}

fn refuse(link: &mut Link, ends: Ends, length: usize, code: icmp::Unreachable) {
    let length = (length + wire::UDP) as u16;
    let mut start = [0; 8];
    start[..2].copy_from_slice(&ends.guest.to_be_bytes());
    start[2..4].copy_from_slice(&ends.remote.1.to_be_bytes());
    start[4..6].copy_from_slice(&length.to_be_bytes());
    icmp::unreachable(link, code, ends.remote.0, protocol::UDP, length, start);
}
