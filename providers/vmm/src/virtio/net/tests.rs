//! Frames through the device, by a driver written by hand.

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF};

use super::*;
use crate::virtio::testing::{Guest, Piece, Signal};

const FEATURES: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF | 1 << VIRTIO_NET_F_GUEST_CSUM;
const RX: usize = RECEIVE as usize;
const TX: usize = TRANSMIT as usize;
const HEADER: u64 = header::LENGTH as u64;

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn device() -> (Net, Guest, OwnedFd) {
    let (ours, theirs) = pair();
    let mut net = Net::new(Wire::frames(theirs).unwrap(), [2, 0, 0, 0, 0, 1], 65_520);
    let (guest, activation) = Guest::new(&[QUEUE, QUEUE], FEATURES);
    net.activate(activation).unwrap();
    (net, guest, ours)
}

fn wait_for(fd: &OwnedFd, events: rustix::event::PollFlags) {
    let mut fds = [rustix::event::PollFd::new(fd, events)];
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 1, "nothing comes");
}

fn take(ours: &OwnedFd) -> Vec<u8> {
    wait_for(ours, rustix::event::PollFlags::IN);
    let mut frame = vec![0; header::LARGEST];
    let length = recv(ours, &mut frame[..], RecvFlags::empty()).unwrap().1;
    frame.truncate(length);
    frame
}

#[test]
fn a_frame_goes_out_without_its_header() {
    let (_net, mut guest, ours) = device();
    guest.write(0x1000, &[7; header::LENGTH]);
    guest.write(0x2000, b"to the world");
    let head = guest.queues[TX].add(&[(0x1000, HEADER as u32, false), (0x2000, 12, false)]);
    guest.queues[TX].kick();
    assert_eq!(take(&ours), b"to the world");
    assert_eq!(guest.wait_used(TX), (head, 0));
}

#[test]
fn a_frame_comes_in_behind_a_header() {
    let (_net, mut guest, ours) = device();
    for at in 0..32 {
        guest.queues[RX].add(&[(at * 0x1000, 0x1000, true)]);
    }
    guest.queues[RX].kick();
    send(&ours, b"from the world", SendFlags::empty()).unwrap();
    assert_eq!(guest.wait_used(RX), (0, 14 + HEADER as u32));
    assert_eq!(guest.read(0, header::LENGTH), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(guest.read(HEADER, 14), b"from the world");
}

#[test]
fn a_large_frame_is_spread_over_chains_and_the_rest_serves_the_next() {
    let (_net, mut guest, ours) = device();
    for at in 0..40 {
        guest.queues[RX].add(&[(at * 0x1000, 0x1000, true)]);
    }
    guest.queues[RX].kick();
    let frame: Vec<u8> = (0..65_000_u32).map(|n| (n % 251) as u8).collect();
    send(&ours, &frame, SendFlags::empty()).unwrap();
    send(&ours, b"small", SendFlags::empty()).unwrap();
    let mut got = Vec::new();
    for chain in 0..16 {
        let (head, written) = guest.wait_used(RX);
        assert_eq!(u64::from(head), chain);
        got.extend(guest.read(chain * 0x1000, written as usize));
    }
    assert_eq!(got[header::BUFFERS..header::LENGTH], [16, 0]);
    assert_eq!(got[header::LENGTH..], frame);
    assert_eq!(guest.wait_used(RX), (16, 5 + HEADER as u32));
}

#[test]
fn frames_wait_for_buffers() {
    let (_net, mut guest, ours) = device();
    send(&ours, b"early", SendFlags::empty()).unwrap();
    for at in 0..17 {
        guest.queues[RX].add(&[(at * 0x1000, 0x1000, true)]);
    }
    guest.queues[RX].kick();
    assert_eq!(guest.wait_used(RX), (0, 5 + HEADER as u32));
}

#[test]
fn a_full_wire_makes_the_guest_wait_and_loses_nothing() {
    let (_net, mut guest, ours) = device();
    guest.write(0x1000, &[0; header::LENGTH]);
    let mut sent = 0_u32;
    let mut received = 0_u32;
    while received < 2000 {
        while sent - received < 100 && sent < 2000 {
            let at = 0x10_0000 + u64::from(sent % 250) * 0x1000;
            let mut frame = vec![0; 4000];
            frame[..4].copy_from_slice(&sent.to_le_bytes());
            guest.write(at, &frame);
            if guest.queues[TX].add(&[(0x1000, HEADER as u32, false), (at, 4000, false)]) % 16 == 0 {
                guest.queues[TX].kick();
            }
            sent += 1;
        }
        guest.queues[TX].kick();
        // Only now the other end reads some.
        for _ in 0..50 {
            assert_eq!(take(&ours)[..4], received.to_le_bytes());
            received += 1;
            guest.wait_used(TX);
        }
    }
}

#[test]
fn a_cut_wire_leaves_the_guest_running() {
    let (_net, mut guest, ours) = device();
    drop(ours);
    for round in 0..100 {
        guest.queues[TX].add(&[(0x1000, 64, false)]);
        guest.queues[TX].kick();
        assert_eq!(guest.wait_used(TX).0, round);
    }
}

#[test]
fn is_quiet_when_nothing_happens() {
    let (net, mut guest, ours) = device();
    // Frames that have no buffers must not keep the worker busy.
    send(&ours, b"waits", SendFlags::empty()).unwrap();
    guest.queues[TX].add(&[(0x1000, 64, false)]);
    guest.queues[TX].kick();
    guest.wait_used(TX);
    let busy = || net.worker.as_ref().unwrap().cpu_time();
    let before = busy();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!((busy() - before).as_millis() < 20, "the worker spins");
    assert!(guest.said().iter().all(|signal| *signal != Signal::NeedsReset));
}

#[test]
fn a_cut_wire_with_frames_left_in_it_keeps_nobody_busy() {
    let (net, mut guest, ours) = device();
    send(&ours, b"last", SendFlags::empty()).unwrap();
    drop(ours);
    guest.queues[TX].add(&[(0x1000, 64, false)]);
    guest.queues[TX].kick();
    guest.wait_used(TX);
    let busy = || net.worker.as_ref().unwrap().cpu_time();
    let before = busy();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!((busy() - before).as_millis() < 20, "the worker spins");
    for at in 0..17 {
        guest.queues[RX].add(&[(at * 0x1000, 0x1000, true)]);
    }
    guest.queues[RX].kick();
    assert_eq!(guest.wait_used(RX), (0, 4 + HEADER as u32));
}

#[test]
fn frames_that_wait_for_a_wire_are_let_go_when_it_is_cut() {
    let (_net, mut guest, ours) = device();
    for _ in 0..100 {
        guest.queues[TX].add(&[(0x1000, 60_000, false)]);
    }
    guest.queues[TX].kick();
    // More than the wire takes; the first have gone into it.
    guest.wait_used(TX);
    drop(ours);
    for _ in 1..100 {
        guest.wait_used(TX);
    }
}

#[test]
fn small_frames_need_little_room() {
    let (ours, theirs) = pair();
    let mut net = Net::new(Wire::frames(theirs).unwrap(), [2, 0, 0, 0, 0, 1], 1500);
    let (mut guest, activation) = Guest::new(&[16, 16], FEATURES);
    net.activate(activation).unwrap();
    for at in 0..2 {
        guest.queues[RX].add(&[(at * 0x1000, 1536, true)]);
    }
    guest.queues[RX].kick();
    send(&ours, &[1; 1514], SendFlags::empty()).unwrap();
    assert_eq!(guest.wait_used(RX), (0, 1514 + HEADER as u32));
}

#[test]
fn is_reset_and_activated_again() {
    let (mut net, mut guest, ours) = device();
    net.reset();
    guest.queues[TX].add(&[(0x1000, 64, false)]);
    guest.queues[TX].kick();
    assert!(guest.queues[TX].used().is_none());
    let (mut guest, activation) = Guest::new(&[QUEUE, QUEUE], FEATURES);
    net.activate(activation).unwrap();
    guest.queues[TX].add(&[(0x1000, 64, false)]);
    guest.queues[TX].kick();
    assert_eq!(take(&ours).len(), 64 - header::LENGTH);
    guest.wait_used(TX);
}

#[test]
fn nonsense_asks_for_a_reset() {
    let outside = crate::virtio::testing::MEMORY as u64;
    let bad: [(usize, &[Piece]); 7] = [
        (TX, &[(0x1000, 64, true)]),
        (TX, &[(0x1000, 4, false)]),
        (TX, &[(0x1000, 0x2_0000, false)]),
        (TX, &[(outside, 64, false)]),
        (TX, &[(u64::MAX - 8, 64, false)]),
        (RX, &[(0x1000, 64, false)]),
        (RX, &[(outside - 8, 64, true)]),
    ];
    for (queue, chain) in bad {
        let (_net, mut guest, _ours) = device();
        guest.queues[queue].add(chain);
        guest.queues[queue].kick();
        guest.wait_needs_reset();
    }
}

#[test]
fn a_driver_without_queues_is_refused() {
    let (_ours, theirs) = pair();
    let mut net = Net::new(Wire::frames(theirs).unwrap(), [2, 0, 0, 0, 0, 1], 1500);
    let (_guest, activation) = Guest::new(&[QUEUE], FEATURES);
    assert!(net.activate(activation).is_err());
}

#[test]
fn tells_its_address_and_mtu() {
    let (_ours, theirs) = pair();
    let net = Net::new(Wire::frames(theirs).unwrap(), [2, 1, 2, 3, 4, 5], 65_520);
    let mut space = [0xee; 14];
    net.read_config(0, &mut space);
    assert_eq!(space, [2, 1, 2, 3, 4, 5, 1, 0, 1, 0, 0xf0, 0xff, 0xee, 0xee]);
    net.read_config(u64::MAX, &mut space);
    assert!(rustix::io::fcntl_getfd(net.wire.as_fd()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever a driver writes into its rings, the device answers or asks for a reset.
    #[test]
    fn survives_any_descriptors(
        descriptors in proptest::collection::vec((any::<u64>(), any::<u32>(), 0..8_u16, 0..300_u16), 1..12),
        heads in proptest::collection::vec(0..300_u16, 1..8),
        queue in 0..2_usize,
    ) {
        let (net, mut guest, ours) = device();
        send(&ours, b"frame", SendFlags::empty()).unwrap();
        for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
            // Half of them inside of memory.
            let address = if address & 1 == 0 { address % 0x200_0000 } else { *address };
            guest.queues[queue].describe(index as u16, address, *length >> (length % 32), *flags, *next);
        }
        for head in heads {
            guest.queues[queue].offer(head);
        }
        guest.queues[queue].kick();
        drop(net);
    }
}
