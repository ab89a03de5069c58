//! All connections, and who of them is next to say something to the guest.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::epoll::EventFlags;

use super::connection::{Connection, Verdict};
use super::greeting::{Greeting, Said};
use super::header::{self, HOST, Header, Operation, Ports, STREAM};
use super::host;
use crate::virtio::buffers::Buffers;
use crate::worker::{Poll, Watch};

/// Most connections and clients at a time. Each takes a descriptor, of which a process commonly has 1024.
pub(super) const MOST: usize = 512;

/// How many refusals wait for room in the guest. While there are so many, nothing is heard from it.
const REFUSALS: usize = 256;

/// The first of the ports that clients of the host are given; far from those that services have.
const FIRST_PORT: u32 = 1 << 30;

/// Tokens below are the worker's own.
pub(super) const FIRST_TOKEN: u64 = 16;

pub(super) struct Table {
    cid: u64,
    /// Where the guest's connections go, without the port.
    stem: PathBuf,
    /// By token. Tokens are never used again, so that an event that comes late finds nobody.
    connections: HashMap<u64, Connection>,
    greetings: HashMap<u64, (Greeting, Watch)>,
    by_ports: HashMap<Ports, u64>,
    next_token: u64,
    next_port: u32,
    /// Who has packets for the guest, in turn.
    line: VecDeque<u64>,
    refusals: VecDeque<Header>,
    /// Whose interest may have changed.
    touched: Vec<u64>,
}

impl Table {
    pub(super) fn new(cid: u64, stem: PathBuf) -> Self {
        Self {
            cid,
            stem,
            connections: HashMap::new(),
            greetings: HashMap::new(),
            by_ports: HashMap::new(),
            next_token: FIRST_TOKEN,
            next_port: FIRST_PORT,
            line: VecDeque::new(),
            refusals: VecDeque::new(),
            touched: Vec::new(),
        }
    }

    /// Whether there is room for another connection.
    pub(super) fn has_room(&self) -> bool {
        self.connections.len() + self.greetings.len() < MOST
    }

    /// Whether packets from the guest can be answered.
    pub(super) fn can_hear(&self) -> bool {
        self.refusals.len() < REFUSALS
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    /// A client has connected.
    pub(super) fn greet(&mut self, stream: OwnedFd) {
        let token = self.token();
        self.greetings.insert(token, (Greeting::new(stream), Watch::new(token)));
        self.touched.push(token);
    }

    /// A descriptor is ready.
    pub(super) fn ready(&mut self, token: u64, ready: EventFlags) {
        if let Some((greeting, watch)) = self.greetings.remove(&token) {
            match greeting.read() {
                Said::Some(greeting) => {
                    self.greetings.insert(token, (greeting, watch));
                }
                Said::Connect(stream, port) => self.request(stream, port, token, watch),
                Said::Nonsense => {}
            }
        } else if let Some(connection) = self.connections.get_mut(&token) {
            let verdict = connection.ready(ready);
            self.judge(token, verdict);
        }
    }

    fn request(&mut self, stream: OwnedFd, port: u32, token: u64, watch: Watch) {
        let ports = loop {
            let ports = Ports { host: self.next_port, guest: port };
            self.next_port =
                if self.next_port == FIRST_PORT * 2 - 1 { FIRST_PORT } else { self.next_port + 1 };
            if !self.by_ports.contains_key(&ports) {
                break ports;
            }
        };
        let mut connection = Connection::request(ports, stream, token);
        connection.watch = watch;
        self.insert(token, connection);
    }

    fn insert(&mut self, token: u64, connection: Connection) {
        self.by_ports.insert(connection.ports, token);
        self.connections.insert(token, connection);
        self.note(token);
    }

    /// A packet has come from the guest; `data` is what follows its header.
    pub(super) fn hear(&mut self, header: &Header, data: Buffers) {
        let operation = Operation::parse(header.operation);
        let found = self.by_ports.get(&header.ports()).copied();
        if header.source_cid != self.cid {
            // Whom it would be answered to is somebody else.
        } else if header.destination_cid != HOST || header.kind != STREAM {
            self.refuse(header);
        } else if let Some(token) = found {
            let connection = self.connections.get_mut(&token).expect("what has ports is there");
            let verdict = connection.hear(header, data);
            self.judge(token, verdict);
        } else if operation == Some(Operation::Request) && self.has_room() {
            match host::connect_to(&self.stem, header.destination_port) {
                Ok(stream) => {
                    let token = self.token();
                    self.insert(token, Connection::accepted(header, stream, token));
                }
                Err(_) => self.refuse(header),
            }
        } else {
            self.refuse(header);
        }
    }

    /// Answers by a reset; a reset itself is not answered.
    fn refuse(&mut self, header: &Header) {
        if header.operation != Operation::Reset as u16 {
            self.refusals.push_back(header.refusal());
        }
    }

    fn judge(&mut self, token: u64, verdict: Verdict) {
        match verdict {
            Verdict::Keep => self.note(token),
            Verdict::Drain => {
                self.tell_reset(token);
                self.touched.push(token);
            }
            Verdict::Reset => {
                self.tell_reset(token);
                self.connections.remove(&token);
            }
            Verdict::Gone => {
                // A draining connection's ports may be another's by now.
                if let Some(connection) = self.connections.remove(&token)
                    && self.by_ports.get(&connection.ports) == Some(&token)
                {
                    self.by_ports.remove(&connection.ports);
                }
            }
        }
    }

    /// Tells the guest that a connection is over; its ports are free.
    fn tell_reset(&mut self, token: u64) {
        let ports = self.connections[&token].ports;
        self.by_ports.remove(&ports);
        self.refusals.push_back(Header::to_guest(self.cid, ports, Operation::Reset));
    }

    /// Lines a connection up if it has something to say.
    fn note(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if !connection.queued && connection.has_packets() {
            connection.queued = true;
            self.line.push_back(token);
        }
        self.touched.push(token);
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packets(&self) -> bool {
        !self.refusals.is_empty() || !self.line.is_empty()
    }

    /// Puts the next packet for the guest into `room`, which holds a header and more; returns its length, or `None`
    /// where there was none after all.
    pub(super) fn next_packet(&mut self, room: &Buffers) -> Option<usize> {
        if let Some(header) = self.refusals.pop_front() {
            room.write_at(0, &header.bytes());
            return Some(header::LENGTH);
        }
        while let Some(token) = self.line.pop_front() {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            connection.queued = false;
            let packet = connection.next_packet(self.cid, room);
            self.note(token);
            if let Some(header) = packet {
                room.write_at(0, &header.bytes());
                return Some(header::LENGTH + header.length as usize);
            }
        }
        None
    }

    /// Waits for what all whose state has changed now want.
    pub(super) fn watch(&mut self, poll: &Poll) -> io::Result<()> {
        for token in self.touched.drain(..) {
            if let Some(connection) = self.connections.get_mut(&token) {
                let wanted = connection.wanted();
                let mut watch = std::mem::replace(&mut connection.watch, Watch::new(token));
                let set = watch.set(poll, connection.stream(), wanted);
                connection.watch = watch;
                set?;
            } else if let Some((greeting, watch)) = self.greetings.get_mut(&token) {
                watch.set(poll, greeting.stream(), EventFlags::IN)?;
            }
        }
        Ok(())
    }
}
