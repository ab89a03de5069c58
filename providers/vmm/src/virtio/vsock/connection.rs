//! One connection.
//!
//! ```text
//!   client greets ──► Requested ──response──► Open ◄──request, connected── guest
//!                         │                    │
//!                      refused            both ends done, or a reset
//!                         └────────► gone ◄────┘──► Draining ──all taken──► gone
//! ```
//! Draining is for the host: the guest has closed and been told so, but what it sent is not all taken yet.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::backlog::{Backlog, Closed};
use super::header::{self, Header, NEITHER, NO_RECEIVE, NO_SEND, Operation, Ports};
use crate::virtio::buffers::Buffers;
use crate::worker::Watch;

/// How much the guest may send ahead on one connection, bytes.
pub(super) const ROOM: u32 = 128 << 10;

/// Most bytes in one packet to the guest.
const MOST: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The guest has been asked, or will be, and has not answered.
    Requested,
    Open,
    /// The guest is through with it.
    Draining,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// It goes on.
    Keep,
    /// It ends, and the guest is told.
    Reset,
    /// The guest is told that it has ended; it lives on until the host has taken all.
    Drain,
    /// It has ended, as the guest knows.
    Gone,
}

/// Packets to be sent to the guest.
#[derive(Debug, Default)]
struct Due {
    request: bool,
    response: bool,
    shutdown: bool,
    credit: bool,
}

pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) watch: Watch,
    /// Whether it waits in line for room in the guest.
    pub(super) queued: bool,
    stream: OwnedFd,
    phase: Phase,
    due: Due,
    /// Whether the host may have sent something.
    readable: bool,
    backlog: Backlog,
    /// Which directions the host's end has closed, as flags of a shutdown.
    host_closed: u32,
    /// The same for the guest's.
    guest_closed: u32,
    /// The guest's room, and how much has left it, as it has said last.
    guest_room: u32,
    guest_forwarded: u32,
    /// Bytes sent to the guest, modulo 2^32.
    sent: u32,
    /// Whether the guest has been asked for credit and has given none.
    credit_asked: bool,
    /// Bytes got from the guest, those of them the host has taken, and what the guest was told of that.
    received: u32,
    forwarded: u32,
    announced: u32,
}

impl Connection {
    fn new(ports: Ports, stream: OwnedFd, token: u64, phase: Phase) -> Self {
        Self {
            ports,
            watch: Watch::new(token),
            queued: false,
            stream,
            phase,
            due: Due::default(),
            readable: false,
            backlog: Backlog::default(),
            host_closed: 0,
            guest_closed: 0,
            guest_room: 0,
            guest_forwarded: 0,
            sent: 0,
            credit_asked: false,
            received: 0,
            forwarded: 0,
            announced: 0,
        }
    }

    /// A client wants to connect to the guest.
    pub(super) fn request(ports: Ports, stream: OwnedFd, token: u64) -> Self {
        let mut connection = Self::new(ports, stream, token, Phase::Requested);
        connection.due.request = true;
        connection
    }

    /// The guest has connected to the host by `request`.
    pub(super) fn accepted(request: &Header, stream: OwnedFd, token: u64) -> Self {
        let mut connection = Self::new(request.ports(), stream, token, Phase::Open);
        connection.note_credit(request);
        connection.due.response = true;
        connection
    }

    pub(super) fn stream(&self) -> &OwnedFd {
        &self.stream
    }

    fn note_credit(&mut self, header: &Header) {
        self.guest_room = header.buf_alloc;
        self.guest_forwarded = header.fwd_cnt;
        if self.credit() > 0 {
            self.credit_asked = false;
        }
    }

    /// How much may be sent to the guest (section 5.10.6.3).
    fn credit(&self) -> u32 {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// The guest has sent a packet; `data` is what follows the header.
    pub(super) fn hear(&mut self, header: &Header, data: Buffers) -> Verdict {
        self.note_credit(header);
        match (Operation::parse(header.operation), self.phase) {
            (Some(Operation::Reset), _) => Verdict::Gone,
            (Some(Operation::Response), Phase::Requested) if !self.due.request => self.established(),
            (Some(Operation::Data), Phase::Open) => self.take(data),
            (Some(Operation::CreditUpdate), Phase::Open) => Verdict::Keep,
            (Some(Operation::CreditRequest), Phase::Open) => {
                self.due.credit = true;
                Verdict::Keep
            }
            (Some(Operation::Shutdown), Phase::Open) => self.guest_closes(header.flags),
            _ => Verdict::Reset,
        }
    }

    /// The guest has accepted: the client hears of it. There is nothing else in its socket yet, so it has room.
    fn established(&mut self) -> Verdict {
        let answer = format!("OK {}\n", self.ports.host);
        if send(&self.stream, answer.as_bytes(), SendFlags::NOSIGNAL) != Ok(answer.len()) {
            return Verdict::Reset;
        }
        self.phase = Phase::Open;
        self.readable = true;
        Verdict::Keep
    }

    fn take(&mut self, data: Buffers) -> Verdict {
        let length = data.len();
        // Neither may it send after it has said that it would not, nor more than there is room for.
        if self.guest_closed & NO_SEND != 0 || self.backlog.len() + length > ROOM as usize {
            return Verdict::Reset;
        }
        self.received = self.received.wrapping_add(length as u32);
        if self.host_closed & NO_RECEIVE != 0 {
            self.forwarded = self.received;
        } else {
            match self.backlog.push(&self.stream, data) {
                Ok(gone) => self.forwarded = self.forwarded.wrapping_add(gone as u32),
                Err(Closed) => self.host_takes_no_more(),
            }
        }
        self.consider_credit();
        Verdict::Keep
    }

    /// The guest is told of room before it believes to have none.
    fn consider_credit(&mut self) {
        let believed = ROOM.saturating_sub(self.received.wrapping_sub(self.announced));
        if self.phase == Phase::Open && believed < ROOM / 2 && self.forwarded != self.announced {
            self.due.credit = true;
        }
    }

    fn guest_closes(&mut self, flags: u32) -> Verdict {
        self.guest_closed |= flags & NEITHER;
        if self.guest_closed & NO_RECEIVE != 0 {
            // What the host has sent and the guest has not got is for nobody.
            let _ = shutdown(&self.stream, Shutdown::Read);
            self.readable = false;
        }
        self.close_what_is_through()
    }

    /// Where the guest sends no more and the host has all, the host is told.
    fn close_what_is_through(&mut self) -> Verdict {
        let through = self.backlog.is_empty();
        if self.guest_closed & NO_SEND != 0 && through {
            // It fails where the host's end is gone, which is as well.
            let _ = shutdown(&self.stream, Shutdown::Write);
        }
        match (self.guest_closed == NEITHER, through) {
            (false, _) => Verdict::Keep,
            (true, true) => Verdict::Reset,
            (true, false) => {
                self.phase = Phase::Draining;
                self.due = Due::default();
                self.readable = false;
                Verdict::Drain
            }
        }
    }

    fn host_takes_no_more(&mut self) {
        self.backlog.clear();
        self.forwarded = self.received;
        self.close_host(NO_RECEIVE);
    }

    fn close_host(&mut self, flags: u32) {
        if self.host_closed & flags != flags {
            self.host_closed |= flags;
            self.due.shutdown = self.phase == Phase::Open;
        }
    }

    /// The host's socket is ready for `ready`.
    pub(super) fn ready(&mut self, ready: EventFlags) -> Verdict {
        let hung_up = ready.intersects(EventFlags::HUP | EventFlags::ERR);
        if self.phase == Phase::Requested {
            // The client does not wait for the answer. A guest that has not been asked need not hear of it.
            return match (hung_up, self.due.request) {
                (false, _) => Verdict::Keep,
                (true, true) => Verdict::Gone,
                (true, false) => Verdict::Reset,
            };
        }
        if !self.backlog.is_empty() && (hung_up || ready.contains(EventFlags::OUT)) {
            match self.backlog.flush(&self.stream) {
                Ok(gone) => self.forwarded = self.forwarded.wrapping_add(gone as u32),
                Err(Closed) => self.host_takes_no_more(),
            }
            self.consider_credit();
        }
        if self.phase == Phase::Draining {
            return if self.backlog.is_empty() { Verdict::Gone } else { Verdict::Keep };
        }
        if self.host_closed & NO_SEND == 0 {
            let heard = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
            self.readable |= self.guest_closed & NO_RECEIVE == 0 && ready.intersects(heard);
        } else if hung_up {
            self.host_takes_no_more();
        }
        self.close_what_is_through()
    }

    /// What the host's socket is to be waited for.
    pub(super) fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::OUT, !self.backlog.is_empty());
        match self.phase {
            Phase::Requested => wanted |= EventFlags::HUP,
            Phase::Draining => {}
            Phase::Open if self.host_closed & NO_SEND != 0 => {
                wanted.set(EventFlags::HUP, self.host_closed & NO_RECEIVE == 0);
            }
            Phase::Open => wanted.set(EventFlags::IN, !self.readable && self.guest_closed & NO_RECEIVE == 0),
        }
        wanted
    }

    fn has_data(&self) -> bool {
        self.phase == Phase::Open && self.readable && (self.credit() > 0 || !self.credit_asked)
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packets(&self) -> bool {
        let due = &self.due;
        due.request || due.response || due.shutdown || due.credit || self.has_data()
    }

    /// The next packet for the guest `cid`. Data is put into `room`, where the header leaves off.
    pub(super) fn next_packet(&mut self, cid: u64, room: &Buffers) -> Option<Header> {
        let take = std::mem::take::<bool>;
        let (operation, length) = if take(&mut self.due.request) {
            (Operation::Request, 0)
        } else if take(&mut self.due.response) {
            self.readable = true;
            (Operation::Response, 0)
        } else if let Some(packet) = self.data(room) {
            packet
        } else if take(&mut self.due.shutdown) {
            (Operation::Shutdown, 0)
        } else if take(&mut self.due.credit) {
            (Operation::CreditUpdate, 0)
        } else {
            return None;
        };
        self.due.credit = false;
        self.announced = self.forwarded;
        let flags = if operation == Operation::Shutdown { self.host_closed } else { 0 };
        Some(Header {
            length,
            flags,
            buf_alloc: ROOM,
            fwd_cnt: self.forwarded,
            ..Header::to_guest(cid, self.ports, operation)
        })
    }

    fn data(&mut self, room: &Buffers) -> Option<(Operation, u32)> {
        if !self.has_data() {
            return None;
        }
        if self.credit() == 0 {
            self.credit_asked = true;
            return Some((Operation::CreditRequest, 0));
        }
        let mut place = room.clone();
        place.skip(header::LENGTH);
        place.truncate(MOST.min(self.credit() as usize));
        loop {
            match place.read_from(&self.stream) {
                Ok(length @ 1..) => {
                    self.sent = self.sent.wrapping_add(length as u32);
                    return Some((Operation::Data, length as u32));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Ok(0) | Err(_) => {
                    self.readable = false;
                    self.close_host(NO_SEND);
                    if self.is_hung_up() {
                        self.host_takes_no_more();
                    }
                }
            }
            return None;
        }
    }

    /// Whether the host's end is gone altogether, and not just done with sending.
    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        asked.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}
