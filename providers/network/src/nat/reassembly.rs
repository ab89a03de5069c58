//! Puts fragments of IP datagrams together (RFC 791, section 3.2; RFC 815).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::Ipv4Packet;

/// Datagrams under way at a time; the oldest makes room.
const MOST: usize = 16;
/// How long a datagram may be incomplete: on a cable without delays the rest is lost long before.
const PATIENCE: Duration = Duration::from_secs(5);

/// What fragments of one datagram have in common.
type Key = (Ipv4Addr, Ipv4Addr, u8, u16);

#[derive(Debug)]
struct Partial {
    begun: Instant,
    bytes: Vec<u8>,
    /// What is there: ranges of bytes, sorted, apart from each other.
    there: Vec<(usize, usize)>,
    total: Option<usize>,
}

/// Datagrams of which parts are missing.
#[derive(Debug, Default)]
pub(super) struct Reassembly(HashMap<Key, Partial>);

impl Reassembly {
    /// Takes a fragment; returns the payload of the datagram that it completes.
    pub(super) fn add(&mut self, packet: &Ipv4Packet<&[u8]>, now: Instant) -> Option<Vec<u8>> {
        let key = (packet.src_addr(), packet.dst_addr(), packet.next_header().into(), packet.ident());
        let (offset, payload) = (usize::from(packet.frag_offset()), packet.payload());
        let end = offset + payload.len();
        if end > usize::from(u16::MAX) || payload.is_empty() {
            self.0.remove(&key);
            return None;
        }
        if self.0.len() >= MOST
            && !self.0.contains_key(&key)
            && let Some(oldest) = self.0.iter().min_by_key(|(_, partial)| partial.begun).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        let partial = self.0.entry(key).or_insert_with(|| Partial {
            begun: now,
            bytes: Vec::new(),
            there: Vec::new(),
            total: None,
        });
        let overlaps = partial.there.iter().any(|&(from, to)| offset < to && from < end);
        let beyond = partial.total.is_some_and(|total| end > total || !packet.more_frags());
        if overlaps || beyond {
            // Honest senders do not do that; the whole datagram is given up (RFC 5722 has it so for IPv6).
            self.0.remove(&key);
            return None;
        }
        if partial.bytes.len() < end {
            partial.bytes.resize(end, 0);
        }
        partial.bytes[offset..end].copy_from_slice(payload);
        partial.there.push((offset, end));
        if !packet.more_frags() {
            partial.total = Some(end);
        }
        let held: usize = partial.there.iter().map(|(from, to)| to - from).sum();
        if partial.total == Some(held) && partial.bytes.len() == held {
            return self.0.remove(&key).map(|partial| partial.bytes);
        }
        None
    }

    /// Gives up what has been incomplete for too long.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, partial| now.duration_since(partial.begun) < PATIENCE);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nat::wire::{Fragment, ipv4, protocol};

    fn fragment(whole: &[u8], from: usize, to: usize) -> Vec<u8> {
        let fragment = Fragment { id: 9, offset: from as u16, more: to < whole.len() };
        let (source, destination) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(192, 0, 2, 1));
        let header = ipv4(source, destination, protocol::UDP, (to - from) as u16, fragment);
        [&header[..], &whole[from..to]].concat()
    }

    fn add(reassembly: &mut Reassembly, packet: &[u8]) -> Option<Vec<u8>> {
        reassembly.add(&Ipv4Packet::new_checked(packet).unwrap(), Instant::now())
    }

    proptest! {
        #[test]
        fn any_order_gives_the_datagram(
            whole in proptest::collection::vec(any::<u8>(), 100..4000),
            size in (1_usize..60).prop_map(|n| n * 8),
            order in proptest::collection::vec(any::<u16>(), 500),
        ) {
            let mut parts: Vec<_> = (0..whole.len()).step_by(size)
                .map(|at| fragment(&whole, at, (at + size).min(whole.len()))).collect();
            prop_assume!(parts.len() > 1);
            let mut keys = order.iter();
            parts.sort_by_cached_key(|_| *keys.next().unwrap_or(&0));
            let mut reassembly = Reassembly::default();
            let last = parts.pop().unwrap();
            for part in &parts {
                prop_assert_eq!(add(&mut reassembly, part), None);
            }
            prop_assert_eq!(add(&mut reassembly, &last), Some(whole));
            prop_assert!(reassembly.is_empty());
        }

        #[test]
        fn garbage_is_survived_in_bounds(parts in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<bool>(), 0_usize..100), 0..200)) {
            let mut reassembly = Reassembly::default();
            for (id, offset, more, length) in parts {
                let fragment = Fragment { id, offset: offset & !7, more };
                let header = ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 17, length as u16, fragment);
                let _ = add(&mut reassembly, &[&header[..], &vec![0; length]].concat());
                prop_assert!(reassembly.0.len() <= MOST);
            }
        }
    }

    #[test]
    fn overlaps_give_nothing() {
        let whole = [7; 64];
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, &fragment(&whole, 0, 32)), None);
        assert_eq!(add(&mut reassembly, &fragment(&whole, 24, 64)), None);
        assert!(reassembly.is_empty());
    }
}
