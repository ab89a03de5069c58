//! TCP of the guest, carried on by sockets of the host.
//!
//! A connection of the guest is answered only once the host has reached what is asked for: a refusal is then a
//! refusal to the guest as well. From there on bytes, closes and resets pass both ways, each side held back by what
//! the other takes.

mod connection;
mod segment;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use posada_provider_api::network::management::{GATEWAY, GUEST};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use tokio::sync::oneshot;

use connection::{BUFFER, Brought, Connection, Terms};
use segment::{ACK, Outgoing, RST, SYN, Segment};

use super::address::{Destination, destination};
use super::epoll::{Kind, Ready};
use super::icmp;
use super::outside::Outside;
use super::wire::{self, protocol};

/// What one connection may read of the host before others get their turn, bytes.
const TURN: usize = 256 * 1024;
/// Ports that connections to the guest come from (RFC 6335, section 6).
const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// How often memory of silent connections is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Answers a dial with the caller's end of a socket pair.
pub(super) type DialReply = oneshot::Sender<std::io::Result<OwnedFd>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    guest: u16,
    remote: (Ipv4Addr, u16),
}

/// One connection with its host's side.
#[derive(Debug)]
struct Flow {
    ends: Ends,
    guest_side: Connection,
    host: OwnedFd,
    /// The host is still being reached.
    connecting: bool,
    readable: bool,
    writable: bool,
    /// The host knows that the guest has sent its last byte.
    shut: bool,
    queued: bool,
    /// The earliest entry among the timers.
    armed: Option<Instant>,
    dial: Option<(DialReply, OwnedFd)>,
}

/// All TCP connections.
#[derive(Debug)]
pub(super) struct Tcp {
    flows: HashMap<u64, Flow>,
    by_ends: HashMap<Ends, u64>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Connections with something to do.
    queue: VecDeque<u64>,
    /// Connections that would go on if the cable took more.
    stalled: Vec<u64>,
    most: usize,
    next_id: u64,
    next_port: u16,
    random: RandomState,
    swept: Instant,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Fate {
    Live,
    Gone,
}

impl Tcp {
    /// No connections yet, and never more than `most`.
    pub(super) fn new(most: usize, now: Instant) -> Self {
        Self {
            flows: HashMap::new(),
            by_ends: HashMap::new(),
            timers: BinaryHeap::new(),
            queue: VecDeque::new(),
            stalled: Vec::new(),
            most,
            next_id: 0,
            next_port: *DYNAMIC_PORTS.start(),
            random: RandomState::new(),
            swept: now,
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Takes a segment that the guest sent to `address`.
    pub(super) fn on_packet(&mut self, address: Ipv4Addr, packet: &[u8], outside: &mut Outside<'_>) {
        let Some(segment) = Segment::parse(packet) else { return };
        let ends = Ends { guest: segment.source, remote: (address, segment.destination) };
        let Some(&id) = self.by_ends.get(&ends) else {
            if segment.has(SYN) && !segment.has(ACK) && !segment.has(RST) {
                self.open(ends, &segment, outside);
            } else if let Some(refusal) = segment.refusal() {
                send(outside, ends, &refusal, [&[], &[]]);
            }
            return;
        };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let was_open = flow.guest_side.is_open();
        match flow.guest_side.on_segment(&segment, outside.now) {
            Brought::Nothing => {}
            Brought::Data(bytes) => flow.take(bytes),
            Brought::Reset => {
                flow.abort_host();
                if let Some((reply, _)) = flow.dial.take() {
                    let _ = reply.send(Err(std::io::ErrorKind::ConnectionRefused.into()));
                }
                self.remove(id);
                return;
            }
        }
        if !was_open
            && flow.guest_side.is_open()
            && let Some((reply, end)) = flow.dial.take()
            && reply.send(Ok(end)).is_err()
        {
            // Nobody waits for it any more.
            self.abort(id, outside);
            return;
        }
        if flow.shut && flow.guest_side.is_done() {
            self.remove(id);
        } else {
            self.enqueue(id);
        }
    }

    /// Connects to a TCP port of the guest.
    pub(super) fn dial(&mut self, port: u16, reply: DialReply, outside: &mut Outside<'_>) {
        let ends = (0..=DYNAMIC_PORTS.end() - DYNAMIC_PORTS.start()).find_map(|_| {
            let from = self.next_port;
            self.next_port = from.checked_add(1).unwrap_or(*DYNAMIC_PORTS.start());
            let ends = Ends { guest: port, remote: (GATEWAY, from) };
            (!self.by_ends.contains_key(&ends)).then_some(ends)
        });
        let pair = match ends {
            Some(ends) if self.flows.len() < self.most => stream_pair().map(|pair| (ends, pair)),
            _ => Err(Errno::NOBUFS),
        };
        let (ends, (host, theirs)) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                return;
            }
        };
        let guest_side = Connection::dial(self.initial(ends, outside.now), our_terms(outside));
        let id = self.insert(ends, guest_side, host, false, outside);
        if let Some(flow) = id.and_then(|id| self.flows.get_mut(&id)) {
            flow.dial = Some((reply, theirs));
        }
    }

    /// The guest asks for a connection.
    fn open(&mut self, ends: Ends, syn: &Segment<'_>, outside: &mut Outside<'_>) {
        let refuse = |outside: &mut Outside<'_>| {
            if let Some(refusal) = syn.refusal() {
                send(outside, ends, &refusal, [&[], &[]]);
            }
        };
        if self.flows.len() >= self.most {
            return refuse(outside);
        }
        let host = match destination(ends.remote.0) {
            Destination::Nowhere => return,
            Destination::Resolver if ends.remote.1 == 53 => stream_pair().map(|(ours, theirs)| {
                outside.resolver.serve_stream(theirs);
                (ours, false)
            }),
            Destination::Resolver => return refuse(outside),
            Destination::Host(address) => connect(SocketAddrV4::new(address, ends.remote.1)),
        };
        let initial = self.initial(ends, outside.now);
        let mut guest_side = Connection::held(syn, initial, our_terms(outside));
        match host {
            Ok((host, connecting)) => {
                if !connecting {
                    guest_side.establish();
                }
                self.insert(ends, guest_side, host, connecting, outside);
            }
            Err(error) => refuse_as(error, ends, &guest_side, outside),
        }
    }

    fn initial(&self, ends: Ends, now: Instant) -> u32 {
        self.random.hash_one((ends, now)) as u32
    }

    fn insert(
        &mut self,
        ends: Ends,
        guest_side: Connection,
        host: OwnedFd,
        connecting: bool,
        outside: &mut Outside<'_>,
    ) -> Option<u64> {
        self.next_id += 1;
        let id = self.next_id;
        if let Err(error) = outside.epoll.add(&host, Kind::Tcp, id) {
            refuse_as(error, ends, &guest_side, outside);
            return None;
        }
        let flow = Flow {
            ends,
            guest_side,
            host,
            connecting,
            readable: false,
            writable: !connecting,
            shut: false,
            queued: false,
            armed: None,
            dial: None,
        };
        self.flows.insert(id, flow);
        self.by_ends.insert(ends, id);
        self.enqueue(id);
        Some(id)
    }

    /// The host's side of a connection has news.
    pub(super) fn on_ready(&mut self, id: u64, ready: Ready, outside: &mut Outside<'_>) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.readable |= ready.readable;
        flow.writable |= ready.writable;
        if flow.connecting {
            match sockopt::socket_error(&flow.host) {
                Ok(Ok(())) if ready.writable && !ready.failed => {
                    flow.connecting = false;
                    flow.guest_side.establish();
                }
                Ok(Ok(())) => return,
                Ok(Err(error)) | Err(error) => {
                    refuse_as(error, flow.ends, &flow.guest_side, outside);
                    self.remove(id);
                    return;
                }
            }
        } else if ready.failed {
            self.abort(id, outside);
            return;
        }
        self.enqueue(id);
    }

    /// The cable takes frames again.
    pub(super) fn on_cable_free(&mut self) {
        for id in std::mem::take(&mut self.stalled) {
            self.enqueue(id);
        }
    }

    /// Works off what is queued. Returns whether something remains that need not wait for events.
    pub(super) fn work(&mut self, outside: &mut Outside<'_>) -> bool {
        for _ in 0..self.queue.len() {
            let Some(id) = self.queue.pop_front() else { break };
            let Some(flow) = self.flows.get_mut(&id) else { continue };
            flow.queued = false;
            match flow.work(outside) {
                Ok((Fate::Gone, _)) => self.remove(id),
                Ok((Fate::Live, more)) => {
                    if outside.link.is_full() {
                        self.stalled.push(id);
                    } else if more {
                        self.enqueue(id);
                    }
                    self.arm(id);
                }
                Err(_) => self.abort(id, outside),
            }
        }
        !self.queue.is_empty()
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Serves the timers that have run out.
    pub(super) fn on_time(&mut self, outside: &mut Outside<'_>) {
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= outside.now
        {
            self.timers.pop();
            let Some(flow) = self.flows.get_mut(&id) else { continue };
            if flow.armed == Some(at) {
                flow.armed = None;
            }
            let unwanted = flow.dial.as_ref().is_some_and(|(reply, _)| reply.is_closed());
            if unwanted || flow.guest_side.on_time(outside.now).is_err() {
                if let Some((reply, _)) = flow.dial.take() {
                    let _ = reply.send(Err(std::io::ErrorKind::TimedOut.into()));
                }
                self.abort(id, outside);
            } else {
                self.enqueue(id);
                self.arm(id);
            }
        }
        if outside.now.duration_since(self.swept) >= SWEEP {
            self.swept = outside.now;
            for flow in self.flows.values_mut() {
                flow.guest_side.to_guest.release();
                flow.guest_side.to_host.release();
            }
        }
    }

    /// Keeps one entry among the timers for a connection. An entry that comes too early is moved when it is due, so
    /// that an acknowledgement costs nothing here.
    fn arm(&mut self, id: u64) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if let Some(at) = flow.guest_side.deadline()
            && flow.armed.is_none_or(|armed| at < armed)
        {
            flow.armed = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    fn enqueue(&mut self, id: u64) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !flow.queued
        {
            flow.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Ends a connection with a reset to both sides.
    fn abort(&mut self, id: u64, outside: &mut Outside<'_>) {
        if let Some(flow) = self.flows.get(&id) {
            send(outside, flow.ends, &flow.guest_side.reset(), [&[], &[]]);
            flow.abort_host();
        }
        self.remove(id);
    }

    fn remove(&mut self, id: u64) {
        if let Some(flow) = self.flows.remove(&id) {
            self.by_ends.remove(&flow.ends);
        }
    }
}

impl Flow {
    /// Hands what the guest sent to the host; what the host does not take yet is kept.
    fn take(&mut self, mut bytes: &[u8]) {
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
    fn work(&mut self, outside: &mut Outside<'_>) -> Result<(Fate, bool), Errno> {
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
    fn abort_host(&self) {
        // A socket pair knows no resets; its peer sees the end of the stream.
        let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
    }
}

fn our_terms(outside: &Outside<'_>) -> Terms {
    Terms {
        mss: (outside.link.mtu() - wire::IPV4 - segment::HEADER) as u16,
        window: outside.link.room().min(BUFFER) as u32,
    }
}

fn stream_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Starts to connect. Returns whether the connection is still under way.
fn connect(to: SocketAddrV4) -> Result<(OwnedFd, bool), Errno> {
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
fn refuse_as(error: Errno, ends: Ends, guest_side: &Connection, outside: &mut Outside<'_>) {
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

fn send(outside: &mut Outside<'_>, ends: Ends, segment: &Outgoing, payload: [&[u8]; 2]) {
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
