//! What a connection has to say, and when.

use std::time::Instant;

use super::{Connection, SCALE, State};
use crate::nat::tcp::segment::{ACK, FIN, Offer, Outgoing, PSH, SYN, before};

impl Connection {
    /// The next segment to send, if there is one. It counts as sent.
    pub(in crate::nat::tcp) fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        match self.state {
            State::Held => None,
            State::SynSent { heard } => self.poll_handshake(heard, now),
            State::Open => self.poll_open(now),
        }
    }

    fn poll_handshake(&mut self, heard: bool, now: Instant) -> Option<Outgoing> {
        if self.next != self.unacknowledged {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        self.sent(now);
        let window = self.ours.window.min(u32::from(u16::MAX)) as u16;
        let mut segment = Outgoing {
            sequence: self.unacknowledged,
            flags: SYN,
            window,
            offer: Some(Offer { mss: self.ours.mss, scale: Some(SCALE) }),
            ..Outgoing::default()
        };
        if heard {
            segment.flags |= ACK;
            segment.acknowledged = self.expected;
            segment.offer = Some(Offer { mss: self.ours.mss, scale: (self.scale > 0).then_some(self.scale) });
            self.announced = self.expected.wrapping_add(u32::from(window));
            self.acknowledge = false;
        }
        Some(segment)
    }

    fn poll_open(&mut self, now: Instant) -> Option<Outgoing> {
        let flight = self.next.wrapping_sub(self.unacknowledged) as usize;
        let unsent = self.to_guest.len().saturating_sub(flight);
        let usable = (self.guest_window as usize).saturating_sub(flight);
        if std::mem::take(&mut self.probe) && unsent > 0 {
            // RFC 9293, section 3.8.6.1: one byte beyond a closed window. It does not count as under way.
            let segment = self.segment(flight, 1, 0);
            let end = self.next.wrapping_add(1);
            if before(self.highest, end) {
                self.highest = end;
            }
            return Some(segment);
        }
        let len = unsent.min(usable).min(self.mss);
        // A window that is nearly closed is left to open (RFC 9293, section 3.8.6.2.1).
        let silly = len < self.mss && len < unsent && flight > 0;
        if len > 0 && !silly {
            let last = len == unsent;
            let fin = last && self.host_done;
            let segment = self.segment(flight, len, if last { PSH } else { 0 } | if fin { FIN } else { 0 });
            self.next = self.next.wrapping_add(len as u32 + u32::from(fin));
            self.sent(now);
            return Some(segment);
        }
        if self.host_done && unsent == 0 && flight == self.to_guest.len() && !self.finish_acknowledged {
            let segment = self.segment(flight, 0, FIN);
            self.next = self.next.wrapping_add(1);
            self.sent(now);
            return Some(segment);
        }
        if unsent > 0 && self.deadline.is_none() {
            // The guest's window is closed, and what will open it may get lost.
            self.deadline = Some(now + self.timeout);
        }
        if self.repeats > 0 {
            self.repeats -= 1;
            return Some(self.segment(flight, 0, 0));
        }
        (self.acknowledge || self.window_has_opened()).then(|| self.segment(flight, 0, 0))
    }

    /// Something that wants an acknowledgement is out.
    fn sent(&mut self, now: Instant) {
        if before(self.highest, self.next) {
            self.highest = self.next;
        }
        self.deadline.get_or_insert(now + self.timeout);
    }

    fn segment(&mut self, offset: usize, len: usize, flags: u8) -> Outgoing {
        let window = self.window() >> self.scale;
        self.announced = self.expected.wrapping_add(window << self.scale);
        self.acknowledge = false;
        Outgoing {
            sequence: self.unacknowledged.wrapping_add(offset as u32),
            acknowledged: self.expected,
            flags: ACK | flags,
            window: window as u16,
            offer: None,
            offset,
            len,
        }
    }

    /// The window to announce now, bytes; never takes back what was announced.
    fn window(&self) -> u32 {
        let room = (self.to_host.room() as u32).min(self.largest_window());
        let promised = self.announced.wrapping_sub(self.expected);
        if before(self.announced, self.expected) { room } else { room.max(promised) }
    }

    fn largest_window(&self) -> u32 {
        self.ours.window.min(u32::from(u16::MAX) << self.scale)
    }

    /// Whether the host has taken so much that the guest should know (RFC 9293, section 3.8.6.2.2).
    fn window_has_opened(&self) -> bool {
        let step = (2 * self.mss as u32).min(self.largest_window() / 2);
        let promised = self.announced.wrapping_sub(self.expected);
        !self.guest_done && self.window().saturating_sub(promised) >= step
    }
}
