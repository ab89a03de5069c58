//! The guest's side of one TCP connection (RFC 9293), as the gateway speaks it: a state machine that knows neither
//! sockets nor frames.
//!
//! ```text
//!          SYN of the guest              establish()            ACK
//!   (none) ────────────────► Held ─────────────────► SynSent ─────────► Open ──► done
//!          dial()                                       ▲    SYN|ACK
//!   (none) ─────────────────────────────────────────────┘
//! ```
//! The cable to the guest neither reorders nor delays, and loses a frame only where a queue overflows. So there is
//! no congestion control, and a lost segment makes everything from it on be sent again. What the guest has sent beyond
//! a segment that is missing is kept: made to repeat all of it, a guest without other measure of time doubles its
//! patience with every loss.

mod output;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::reorder::Reorder;
use super::segment::{ACK, FIN, Outgoing, RST, SYN, Segment, before};
use crate::nat::ring::Ring;

/// Most bytes kept for the guest until it acknowledges them, and most kept for the host until it takes them.
pub(super) const BUFFER: usize = 1024 * 1024;

/// We announce windows of up to [`BUFFER`] in units of 32 bytes.
const SCALE: u8 = 5;

/// How long to wait for an acknowledgement first: longer than any guest delays one.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a handshake is repeated before the guest counts as not there.
const HANDSHAKE_TRIES: u32 = 6;
/// How often the SYN of a dial is: for as long in all. It is repeated evenly, as a guest that is still on its way up
/// is to be reached as soon as it has its address, and there is nothing on the cable that could be congested.
const DIAL_TRIES: u32 = 63;
/// How often data is repeated: about a quarter of an hour, as a host of the Internet does.
const DATA_TRIES: u32 = 22;

/// The segment size of a guest that names none (RFC 9293, section 3.7.1).
const DEFAULT_MSS: usize = 536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The guest's SYN is here; what it wants to reach is not known to be there yet.
    Held,
    /// Our SYN is out and not acknowledged. `heard`: the guest's is here.
    SynSent { heard: bool },
    /// Both have acknowledged a SYN.
    Open,
}

/// What we tell the guest about ourselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The largest payload we take, bytes.
    pub(super) mss: u16,
    /// The largest window we announce, bytes; at most [`BUFFER`].
    pub(super) window: u32,
}

/// What a segment has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Brought<'a> {
    /// Nothing to do with data.
    Nothing,
    /// These bytes for the host, in order; may be empty.
    Data(&'a [u8]),
    /// The guest refuses or has aborted the connection.
    Reset,
}

/// The guest does not answer any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silent;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: State,
    ours: Terms,
    /// The guest's, and ours.
    mss: usize,

    /// From the host, not acknowledged by the guest; begins at `unacknowledged` once open.
    pub(super) to_guest: Ring,
    /// The host has sent its last byte.
    host_done: bool,
    /// And the guest has said that it knows.
    finish_acknowledged: bool,
    unacknowledged: u32,
    next: u32,
    /// The highest `next` there ever was: what the guest may acknowledge.
    highest: u32,
    guest_window: u32,
    guest_scale: u8,
    duplicates: u32,
    probe: bool,

    /// From the guest, not taken by the host yet.
    pub(super) to_host: Ring,
    guest_done: bool,
    early: Reorder,
    now_in_order: Vec<u8>,
    expected: u32,
    /// The end of the window the guest was told of.
    announced: u32,
    scale: u8,
    acknowledge: bool,
    /// Acknowledgements to be sent once more, for segments beyond one that is missing: three of them make the guest
    /// repeat it at once (RFC 5681, section 4.2).
    repeats: u8,

    timeout: Duration,
    tries: u32,
    deadline: Option<Instant>,
}

impl Connection {
    fn new(state: State, initial: u32, ours: Terms) -> Self {
        Self {
            state,
            ours,
            mss: DEFAULT_MSS,
            to_guest: Ring::new(BUFFER),
            host_done: false,
            finish_acknowledged: false,
            unacknowledged: initial,
            next: initial,
            highest: initial,
            guest_window: 0,
            guest_scale: 0,
            duplicates: 0,
            probe: false,
            to_host: Ring::new(BUFFER),
            guest_done: false,
            early: Reorder::default(),
            now_in_order: Vec::new(),
            expected: 0,
            announced: 0,
            scale: 0,
            acknowledge: false,
            repeats: 0,
            timeout: FIRST_TIMEOUT,
            tries: 0,
            deadline: None,
        }
    }

    /// A connection the guest asks for with `syn`. It hears nothing before [`establish`](Self::establish).
    pub(super) fn held(syn: &Segment<'_>, initial: u32, ours: Terms) -> Self {
        let mut connection = Self::new(State::Held, initial, ours);
        connection.hear(syn);
        connection
    }

    /// A connection to the guest.
    pub(super) fn dial(initial: u32, ours: Terms) -> Self {
        Self::new(State::SynSent { heard: false }, initial, ours)
    }

    /// What the guest wants to reach is there.
    pub(super) fn establish(&mut self) {
        if self.state == State::Held {
            self.state = State::SynSent { heard: true };
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The host has sent its last byte; the guest hears of it after what is still to be sent.
    pub(super) fn finish(&mut self) {
        self.host_done = true;
    }

    pub(super) fn host_is_done(&self) -> bool {
        self.host_done
    }

    /// Whether the guest has sent its last byte, and the host has it.
    pub(super) fn guest_is_done(&self) -> bool {
        self.guest_done && self.to_host.is_empty()
    }

    /// Whether nothing remains to be said by either side.
    pub(super) fn is_done(&self) -> bool {
        self.guest_is_done() && self.finish_acknowledged && !self.acknowledge
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes a segment of the guest.
    pub(super) fn on_segment<'a>(&mut self, segment: &Segment<'a>, now: Instant) -> Brought<'a> {
        match self.state {
            State::Held if segment.has(RST) => Brought::Reset,
            // The guest repeats its SYN while the host is being reached.
            State::Held => Brought::Nothing,
            State::SynSent { heard: false } => self.on_answer_to_syn(segment),
            State::SynSent { heard: true } | State::Open => self.on_segment_in_sequence(segment, now),
        }
    }

    fn on_answer_to_syn(&mut self, segment: &Segment<'_>) -> Brought<'static> {
        let acknowledges =
            segment.has(ACK) && segment.acknowledged == self.highest && self.highest != self.unacknowledged;
        if !acknowledges {
            return Brought::Nothing;
        }
        if segment.has(RST) {
            return Brought::Reset;
        }
        if segment.has(SYN) {
            self.hear(segment);
            self.open(segment);
            self.acknowledge = true;
        }
        Brought::Nothing
    }

    /// Takes what the guest's SYN says about it.
    fn hear(&mut self, syn: &Segment<'_>) {
        self.expected = syn.sequence.wrapping_add(1);
        self.announced = self.expected;
        let theirs = syn.mss.map_or(DEFAULT_MSS, usize::from).max(DEFAULT_MSS);
        self.mss = theirs.min(usize::from(self.ours.mss));
        // RFC 7323, section 2.2: windows are scaled by both or by none, and by no more than 14 bits.
        self.guest_scale = syn.scale.unwrap_or(0).min(14);
        self.scale = if syn.scale.is_some() { SCALE } else { 0 };
        self.guest_window = u32::from(syn.window);
    }

    /// Our SYN has been acknowledged.
    fn open(&mut self, segment: &Segment<'_>) {
        self.state = State::Open;
        self.unacknowledged = segment.acknowledged;
        self.next = segment.acknowledged;
        self.progress(None);
    }

    fn on_segment_in_sequence<'a>(&mut self, segment: &Segment<'a>, now: Instant) -> Brought<'a> {
        if segment.has(RST) {
            if segment.sequence == self.expected {
                return Brought::Reset;
            }
            // RFC 5961, section 3.2: one that is not exactly in place is challenged.
            self.acknowledge = true;
            return Brought::Nothing;
        }
        if segment.has(SYN) {
            if self.state == State::Open {
                // RFC 5961, section 4.2. A guest that has started afresh answers with a reset.
                self.acknowledge = true;
            } else {
                self.next = self.unacknowledged;
            }
            return Brought::Nothing;
        }
        if !segment.has(ACK) || !self.on_acknowledgement(segment, now) {
            return Brought::Nothing;
        }
        self.on_payload(segment)
    }

    /// Whether the segment's acknowledgement is one of this connection.
    fn on_acknowledgement(&mut self, segment: &Segment<'_>, now: Instant) -> bool {
        let acknowledged = segment.acknowledged;
        if before(self.highest, acknowledged) {
            self.acknowledge = true;
            return false;
        }
        if let State::SynSent { .. } = self.state {
            if acknowledged != self.highest || acknowledged == self.unacknowledged {
                return false;
            }
            self.guest_window = u32::from(segment.window) << self.guest_scale;
            self.open(segment);
            return true;
        }
        if before(acknowledged, self.unacknowledged) {
            // Old, but its payload may be new.
            return true;
        }
        let window = u32::from(segment.window) << self.guest_scale;
        let news = acknowledged.wrapping_sub(self.unacknowledged);
        if news > 0 {
            let data = (news as usize).min(self.to_guest.len());
            self.to_guest.consume(data);
            self.finish_acknowledged |= news as usize > data;
            self.unacknowledged = acknowledged;
            if before(self.next, acknowledged) {
                self.next = acknowledged;
            }
            self.progress(Some(now));
        } else if segment.length() == 0 && self.next != self.unacknowledged {
            self.duplicates += 1;
            if self.duplicates == 3 {
                // RFC 5681, section 3.2, without the congestion there is none of. Windows are not compared: a
                // kernel's move while it holds what came out of order.
                self.next = self.unacknowledged;
            }
        }
        if window == 0 {
            // It lives, and keeps its window closed: that may last.
            self.tries = 0;
        }
        self.guest_window = window;
        true
    }

    /// The guest has moved on: timers start afresh.
    fn progress(&mut self, now: Option<Instant>) {
        self.timeout = FIRST_TIMEOUT;
        self.tries = 0;
        self.duplicates = 0;
        self.probe = false;
        let outstanding = self.unacknowledged != self.highest;
        self.deadline = now.filter(|_| outstanding).map(|now| now + self.timeout);
    }

    fn on_payload<'a>(&mut self, segment: &Segment<'a>) -> Brought<'a> {
        if segment.length() == 0 {
            // RFC 9293, section 3.10.7.4: one outside of the window is answered (probes, keep-alives).
            self.acknowledge |= segment.sequence != self.expected;
            return Brought::Nothing;
        }
        self.acknowledge = true;
        let window = self.announced.wrapping_sub(self.expected) as usize;
        if before(self.expected, segment.sequence) {
            self.repeats = self.repeats.saturating_add(1);
            let (payload, fin) = (segment.payload, segment.has(FIN));
            self.early.keep(segment.sequence, payload, fin, self.expected, window);
            return Brought::Nothing;
        }
        let seen = self.expected.wrapping_sub(segment.sequence);
        if seen as usize > segment.payload.len() || self.guest_done {
            return Brought::Nothing;
        }
        let fresh = &segment.payload[seen as usize..];
        let taken = &fresh[..fresh.len().min(window)];
        self.expected = self.expected.wrapping_add(taken.len() as u32);
        while let Some(early) = self.early.next(self.expected) {
            self.expected = self.expected.wrapping_add(early.len() as u32);
            self.now_in_order.extend_from_slice(&early);
        }
        let ends_here = segment.has(FIN) && taken.len() == fresh.len() && self.now_in_order.is_empty();
        if ends_here || self.early.ends_at(self.expected) {
            self.expected = self.expected.wrapping_add(1);
            self.guest_done = true;
        }
        Brought::Data(taken)
    }

    /// What had come early and follows on the data that a segment has just brought.
    pub(super) fn take_in_order(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.now_in_order)
    }

    /// Time has come to [`deadline`](Self::deadline): what is not acknowledged is sent again.
    ///
    /// # Errors
    /// [`Silent`], where that has been done often enough.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<(), Silent> {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        self.tries += 1;
        let (most, slower) = match self.state {
            State::SynSent { heard: false } => (DIAL_TRIES, 1),
            State::Held | State::SynSent { heard: true } => (HANDSHAKE_TRIES, 2),
            State::Open => (DATA_TRIES, 2),
        };
        if self.tries > most {
            return Err(Silent);
        }
        self.timeout = (self.timeout * slower).min(LONGEST_TIMEOUT);
        self.deadline = Some(now + self.timeout);
        self.next = self.unacknowledged;
        self.duplicates = 0;
        self.probe = self.state == State::Open && self.guest_window == 0;
        Ok(())
    }

    /// The segment that tells the guest that the connection is no more.
    pub(super) fn reset(&self) -> Outgoing {
        let sequence = if self.state == State::Held { 0 } else { self.next };
        Outgoing { sequence, acknowledged: self.expected, flags: RST | ACK, ..Outgoing::default() }
    }

    /// The sequence number of the guest's SYN, while nothing else has come.
    pub(super) fn guest_initial(&self) -> u32 {
        self.expected.wrapping_sub(1)
    }
}
