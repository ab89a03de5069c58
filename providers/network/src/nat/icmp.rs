//! ICMP (RFC 792): echoes, and telling the guest what cannot be reached.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use posada_provider_api::network::management::{GATEWAY, GUEST};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet};

use super::address::{Destination, destination};
use super::epoll::Kind;
use super::link::Link;
use super::outside::Outside;
use super::wire::{self, Fragment, protocol};

/// Echoes under way at a time; the one that has been silent longest makes room.
const MOST: usize = 64;
const IDLE: Duration = Duration::from_secs(30);

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;

/// Why something cannot be reached: codes of ICMP's type 3 (RFC 792, RFC 1122, section 3.2.2.1).
#[derive(Debug, Clone, Copy)]
pub(super) enum Unreachable {
    Network = 0,
    Host = 1,
    Port = 3,
    Prohibited = 13,
}

/// Tells the guest that a packet it sent to `address` did not get there. `length` is that of its IP payload, which
/// began with `start`.
pub(super) fn unreachable(
    link: &mut Link,
    code: Unreachable,
    address: Ipv4Addr,
    protocol: u8,
    length: u16,
    start: [u8; 8],
) {
    let mut message = vec![UNREACHABLE, code as u8, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&wire::ipv4(GUEST, address, protocol, length, Fragment::default()));
    message.extend_from_slice(&start);
    // Where the host itself cannot be reached, it is the gateway that says so.
    let from = if matches!(code, Unreachable::Port) { address } else { GATEWAY };
    link.send_ip(from, protocol::ICMP, &wire::icmp(message));
}

#[derive(Debug)]
struct Echo {
    socket: OwnedFd,
    ident: u16,
    address: Ipv4Addr,
    used: Instant,
}

/// Echoes to the world, through the kernel's ping sockets (`icmp(7)`), where the user may have them.
#[derive(Debug, Default)]
pub(super) struct Icmp {
    echoes: HashMap<u64, Echo>,
    by_ident: HashMap<(u16, Ipv4Addr), u64>,
    next_id: u64,
}

impl Icmp {
    /// Takes a message that the guest sent to `address`.
    pub(super) fn on_packet(&mut self, address: Ipv4Addr, packet: &[u8], outside: &mut Outside<'_>) {
        let Ok(view) = Icmpv4Packet::new_checked(packet) else { return };
        if view.msg_type() != Icmpv4Message::EchoRequest {
            return;
        }
        match destination(address) {
            Destination::Nowhere => {}
            Destination::Host(to) if !to.is_loopback() => {
                // Where ping sockets are not permitted the echo stays without answer, as behind many a router.
                let _ = self.forward(view.echo_ident(), to, packet, outside);
            }
            Destination::Host(_) | Destination::Resolver => {
                let mut reply = packet.to_vec();
                reply[0] = ECHO_REPLY;
                outside.link.send_ip(address, protocol::ICMP, &wire::icmp(reply));
            }
        }
    }

    fn forward(
        &mut self,
        ident: u16,
        address: Ipv4Addr,
        packet: &[u8],
        outside: &mut Outside<'_>,
    ) -> Result<(), Errno> {
        let id = match self.by_ident.get(&(ident, address)) {
            Some(id) => *id,
            None => self.open(ident, address, outside)?,
        };
        if let Some(echo) = self.echoes.get_mut(&id) {
            echo.used = outside.now;
            rustix::net::send(&echo.socket, packet, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    fn open(&mut self, ident: u16, address: Ipv4Addr, outside: &mut Outside<'_>) -> Result<u64, Errno> {
        if self.echoes.len() >= MOST
            && let Some(oldest) = self.echoes.iter().min_by_key(|(_, echo)| echo.used).map(|(id, _)| *id)
        {
            self.remove(oldest);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?;
        rustix::net::connect(&socket, &SocketAddrV4::new(address, 0))?;
        self.next_id += 1;
        outside.epoll.add(&socket, Kind::Icmp, self.next_id)?;
        self.echoes.insert(self.next_id, Echo { socket, ident, address, used: outside.now });
        self.by_ident.insert((ident, address), self.next_id);
        Ok(self.next_id)
    }

    /// An answer has come.
    pub(super) fn on_ready(&mut self, id: u64, buffer: &mut [u8], outside: &mut Outside<'_>) {
        let Some(echo) = self.echoes.get_mut(&id) else { return };
        loop {
            let length = match rustix::net::recv(&echo.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return,
                // An echo of before was not delivered; the guest hears nothing, which is the truth.
                Err(_) => continue,
            };
            // The kernel hands over the message with an identifier of its own.
            let mut message = buffer[..length].to_vec();
            if length < 8 || message[0] != ECHO_REPLY {
                continue;
            }
            message[4..6].copy_from_slice(&echo.ident.to_be_bytes());
            echo.used = outside.now;
            outside.link.send_ip(echo.address, protocol::ICMP, &wire::icmp(message));
        }
    }

    /// Forgets echoes that have been silent for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        let old: Vec<u64> = self
            .echoes
            .iter()
            .filter(|(_, echo)| now.duration_since(echo.used) >= IDLE)
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.remove(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.echoes.is_empty()
    }

    fn remove(&mut self, id: u64) {
        if let Some(echo) = self.echoes.remove(&id) {
            self.by_ident.remove(&(echo.ident, echo.address));
        }
    }
}
