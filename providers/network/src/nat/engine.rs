//! The loop that drives the NAT.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use posada_provider_api::Protocol;
use posada_provider_api::network::management::{DNS, GATEWAY, GATEWAY_MAC, GUEST};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol,
    Ipv4Packet, UdpPacket,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::NatConfig;
use super::dhcp;
use super::dns::{Reply, Resolver};
use super::epoll::{Epoll, Kind, Ready};
use super::icmp::Icmp;
use super::link::Link;
use super::outside::Outside;
use super::reassembly::Reassembly;
use super::tcp::{self, Tcp};
use super::udp::{self, Udp};
use crate::cable::{LARGEST, Received};
use crate::watch::watch;

/// Frames taken from the cable before anything else gets its turn.
const BATCH: usize = 64;
/// How often what has been silent is looked through.
const SWEEP: Duration = Duration::from_secs(5);
const DNS_PORT: u16 = 53;

/// What can be asked of a running NAT.
pub(super) enum Command {
    Dial { protocol: Protocol, port: u16, reply: oneshot::Sender<io::Result<OwnedFd>> },
    Count(oneshot::Sender<super::Counts>),
}

/// The NAT, in its thread.
pub(super) struct Engine {
    link: Link,
    link_readable: bool,
    epoll: Epoll,
    wake: AsyncFd<OwnedFd>,
    commands: mpsc::UnboundedReceiver<Command>,
    replies: mpsc::Receiver<Reply>,
    resolver: Resolver,
    dhcp: dhcp::Server,
    reassembly: Reassembly,
    tcp: Tcp,
    udp: Udp,
    icmp: Icmp,
    buffer: Vec<u8>,
    swept: Instant,
    /// Counts what the guest has begun of its own accord.
    heard: watch::Sender<u64>,
}

/// Why the loop has come to an end.
enum Ended {
    /// The guest's end of the cable is gone.
    Cable,
    /// Nobody holds the NAT any more.
    Dropped,
}

impl Engine {
    /// Must be called in the runtime that will drive it.
    pub(super) fn new(
        link: OwnedFd,
        config: NatConfig,
        commands: mpsc::UnboundedReceiver<Command>,
        heard: watch::Sender<u64>,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&link, true)?;
        let epoll = Epoll::new()?;
        epoll.add(&link, Kind::Link, 0)?;
        let wake = watch(epoll.descriptor()?)?;
        let (replies_in, replies) = mpsc::channel(64);
        let now = Instant::now();
        Ok(Self {
            link: Link::new(link, config.guest_mac, config.mtu),
            link_readable: true,
            epoll,
            wake,
            commands,
            replies,
            resolver: Resolver::new(&config.names, config.resolv_conf, replies_in),
            dhcp: dhcp::Server::new(config.guest_mac, config.hostname, config.mtu),
            reassembly: Reassembly::default(),
            tcp: Tcp::new(config.limits.tcp, now),
            udp: Udp::new(config.limits.udp),
            icmp: Icmp::default(),
            buffer: vec![0; LARGEST],
            swept: now,
            heard,
        })
    }

    /// Runs until the NAT is dropped.
    pub(super) async fn run(mut self) {
        if let Ok(Ended::Cable) = self.carry().await {
            // Connections have nobody to talk to; callers are told so until they let go.
            drop((self.link, self.tcp, self.udp, self.icmp));
            while self.commands.recv().await.is_some() {}
        }
    }

    async fn carry(&mut self) -> io::Result<Ended> {
        let mut events = Vec::with_capacity(256);
        loop {
            let busy = match self.turn(&mut events)? {
                Some(busy) => busy,
                None => return Ok(Ended::Cable),
            };
            let deadline = self.deadline();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return Ok(Ended::Dropped),
                },
                Some(reply) = self.replies.recv() => {
                    udp::send(&mut self.link, (DNS, DNS_PORT), GUEST, reply.guest_port, &reply.payload);
                }
                () = tokio::task::yield_now(), if busy => {}
                guard = self.wake.readable(), if !busy => guard?.clear_ready(),
                () = sleep_until(deadline.into()), if !busy => {}
            }
        }
    }

    /// Does what can be done without waiting. Returns whether there is more of it; `None` where the cable is gone.
    fn turn(&mut self, events: &mut Vec<(Kind, u64, Ready)>) -> io::Result<Option<bool>> {
        self.epoll.ready(events)?;
        let now = Instant::now();
        let mut ended = false;
        let mut outside = Outside { link: &mut self.link, epoll: &self.epoll, resolver: &self.resolver, now };
        for &(kind, id, ready) in events.iter() {
            match kind {
                Kind::Link => {
                    self.link_readable |= ready.readable || ready.failed;
                    ended |= ready.ended;
                    if ready.writable {
                        outside.link.flush();
                        self.tcp.on_cable_free();
                    }
                }
                Kind::Tcp => self.tcp.on_ready(id, ready, &mut outside),
                Kind::Udp => self.udp.on_ready(id, &mut self.buffer, &mut outside),
                Kind::Icmp => self.icmp.on_ready(id, &mut self.buffer, &mut outside),
            }
        }
        for _ in 0..BATCH {
            if !self.link_readable {
                break;
            }
            match self.link.receive(&mut self.buffer) {
                Received::Frame(0) if ended => return Ok(None),
                Received::Frame(length) => self.on_frame(length, now),
                Received::Nothing => self.link_readable = false,
                Received::Ended => return Ok(None),
            }
        }
        let mut outside = Outside { link: &mut self.link, epoll: &self.epoll, resolver: &self.resolver, now };
        self.tcp.on_time(&mut outside);
        let mut busy = self.tcp.work(&mut outside);
        busy |= self.udp.work(&mut self.buffer, &mut outside);
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.udp.sweep(now);
            self.icmp.sweep(now);
            self.reassembly.sweep(now);
        }
        Ok(Some(busy || self.link_readable || events.len() == events.capacity()))
    }

    /// When there is something to do even if nothing happens.
    fn deadline(&self) -> Instant {
        let idle =
            self.tcp.len() == 0 && self.udp.len() == 0 && self.icmp.is_empty() && self.reassembly.is_empty();
        let sweep = self.swept + if idle { Duration::from_secs(3600) } else { SWEEP };
        self.tcp.deadline().map_or(sweep, |tcp| tcp.min(sweep))
    }

    fn on_command(&mut self, command: Command) {
        let mut outside = Outside {
            link: &mut self.link,
            epoll: &self.epoll,
            resolver: &self.resolver,
            now: Instant::now(),
        };
        match command {
            Command::Dial { protocol: Protocol::Tcp, port, reply } => {
                self.tcp.dial(port, reply, &mut outside);
            }
            Command::Dial { protocol: Protocol::Udp, port, reply } => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.udp.dial(port, &mut outside).map_err(io::Error::from));
            }
            Command::Count(reply) => {
                let _ = reply.send(super::Counts { tcp: self.tcp.len(), udp: self.udp.len() });
            }
        }
    }

    fn on_frame(&mut self, length: usize, now: Instant) {
        let frame = &self.buffer[..length];
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return };
        let to = ethernet.dst_addr();
        if to != EthernetAddress(GATEWAY_MAC) && !to.is_broadcast() {
            return;
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => answer_arp(&mut self.link, ethernet.payload()),
            EthernetProtocol::Ipv4 => {
                let Ok(ip) = Ipv4Packet::new_checked(ethernet.payload()) else { return };
                if ip.version() != 4 || !ip.verify_checksum() {
                    return;
                }
                let whole;
                let payload = if ip.more_frags() || ip.frag_offset() > 0 {
                    let Some(datagram) = self.reassembly.add(&ip, now) else { return };
                    whole = datagram;
                    &whole[..]
                } else {
                    ip.payload()
                };
                let (from, to) = (ip.src_addr(), ip.dst_addr());
                // A client without an address may speak, to get one.
                let is_guest =
                    from == GUEST || (from.is_unspecified() && ip.next_header() == IpProtocol::Udp);
                if !is_guest {
                    return;
                }
                if from == GUEST && ethernet.src_addr().is_unicast() {
                    self.link.guest_mac = ethernet.src_addr().0;
                }
                if begins(ip.next_header(), payload) {
                    self.heard.send_modify(|count| *count = count.wrapping_add(1));
                }
                let mut outside =
                    Outside { link: &mut self.link, epoll: &self.epoll, resolver: &self.resolver, now };
                match ip.next_header() {
                    IpProtocol::Tcp => self.tcp.on_packet(to, payload, &mut outside),
                    IpProtocol::Udp if from == GUEST || to.is_broadcast() => {
                        self.udp.on_packet(to, payload, &self.dhcp, &mut outside);
                    }
                    IpProtocol::Icmp => self.icmp.on_packet(to, payload, &mut outside),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Whether a packet of the guest is the beginning of something: a question for an address or a name, a connection. What
/// answers to us is not.
fn begins(protocol: IpProtocol, payload: &[u8]) -> bool {
    match protocol {
        IpProtocol::Tcp => tcp::opens(payload),
        IpProtocol::Udp => UdpPacket::new_checked(payload)
            .is_ok_and(|udp| [DNS_PORT, dhcp::SERVER_PORT].contains(&udp.dst_port())),
        _ => false,
    }
}

fn answer_arp(link: &mut Link, packet: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(packet) else { return };
    let Ok(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpRepr::parse(&packet)
    else {
        return;
    };
    if !is_ours(target_protocol_addr) || !source_hardware_addr.is_unicast() {
        return;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(GATEWAY_MAC),
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut bytes = vec![0; reply.buffer_len()];
    reply.emit(&mut ArpPacket::new_unchecked(&mut bytes));
    let mut header = super::wire::ethernet(source_hardware_addr.0);
    header[12..].copy_from_slice(&[0x08, 0x06]);
    link.send(&[io::IoSlice::new(&header), io::IoSlice::new(&bytes)]);
}

fn is_ours(address: Ipv4Addr) -> bool {
    address == GATEWAY || address == DNS
}
