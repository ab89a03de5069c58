//! Entropy by a driver written by hand.

use super::*;
use crate::virtio::testing::{Guest, MEMORY};

fn device() -> (Rng, Guest) {
    let mut rng = Rng::new();
    let (guest, activation) = Guest::new(&[QUEUE], rng.features());
    rng.activate(activation).unwrap();
    (rng, guest)
}

#[test]
fn fills_buffers_with_different_bytes() {
    let (_rng, mut guest) = device();
    let mut seen = std::collections::HashSet::new();
    for round in 0..20 {
        guest.queues[0].add(&[(0x1000, 16, true), (0x2000, 16, true)]);
        guest.queues[0].kick();
        assert_eq!(guest.wait_used(0).1, 32, "{round}");
        assert!(seen.insert(guest.read(0x1000, 16)) && seen.insert(guest.read(0x2000, 16)));
    }
}

#[test]
fn gives_no_more_than_a_bounded_amount() {
    let (_rng, mut guest) = device();
    guest.queues[0].add(&[(0x1000, 0x10_0000, true)]);
    guest.queues[0].kick();
    assert_eq!(guest.wait_used(0).1 as usize, MOST);
    assert_eq!(guest.read(0x1000 + MOST as u64, 16), [0; 16]);
}

#[test]
fn what_may_only_be_read_is_left_alone() {
    let (_rng, mut guest) = device();
    guest.queues[0].add(&[(0x1000, 64, false)]);
    guest.queues[0].kick();
    assert_eq!(guest.wait_used(0).1, 0);
    assert_eq!(guest.read(0x1000, 64), [0; 64]);
}

#[test]
fn nonsense_asks_for_a_reset() {
    for (address, length) in [(MEMORY as u64, 8), (u64::MAX, 8), (MEMORY as u64 - 4, 8)] {
        let (_rng, mut guest) = device();
        guest.queues[0].add(&[(address, length, true)]);
        guest.queues[0].kick();
        guest.wait_needs_reset();
    }
}
