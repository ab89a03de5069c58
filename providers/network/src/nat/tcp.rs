//! TCP of the guest, carried on by sockets of the host.
//!
//! A connection of the guest is answered only once the host has reached what is asked for: a refusal is then a
//! refusal to the guest as well. From there on bytes, closes and resets pass both ways, each side held back by what
//! the other takes.

mod connection;
mod flow;
mod reorder;
mod segment;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::sync::oneshot;

use connection::{Brought, Connection};
use flow::{Fate, Flow, connect, our_terms, refuse_as, send, stream_pair};
use segment::{ACK, RST, SYN, Segment};

use super::address::{Destination, destination};
use super::ends::{Ends, Ports};
use super::epoll::{Kind, Ready};
use super::outside::Outside;

/// How often memory of silent connections is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Answers a dial with the caller's end of a socket pair.
pub(super) type DialReply = oneshot::Sender<std::io::Result<OwnedFd>>;

/// Whether a packet of the guest asks for a connection.
pub(super) fn opens(packet: &[u8]) -> bool {
    Segment::parse(packet).is_some_and(|segment| segment.has(SYN) && !segment.has(ACK))
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
    ports: Ports,
    random: RandomState,
    swept: Instant,
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
            ports: Ports::new(),
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
            Brought::Data(bytes) => {
                flow.take(bytes);
                let early = flow.guest_side.take_in_order();
                flow.take(&early);
            }
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
        let ends = self.ports.next(port, |ends| self.by_ends.contains_key(ends));
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
