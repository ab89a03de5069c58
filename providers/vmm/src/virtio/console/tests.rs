//! A console under a driver written by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::{Guest, MEMORY, Signal};

const IN: usize = 2;
const OUT: usize = 3;
/// Where control messages are put.
const INBOX: u64 = 0x10_0000;
const OUTBOX: u64 = 0x20_0000;

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ours, theirs.into())
}

struct Set {
    console: Console,
    handle: ConsoleHandle,
    guest: Guest,
    terminal: UnixStream,
    port: UnixStream,
    messages: u64,
}

/// A terminal and one port, known to a driver that has said nothing yet.
fn set() -> Set {
    let (terminal, end) = pair();
    let (port, port_end) = pair();
    let ports = vec![Port { name: "org.posada.test".to_owned(), stream: port_end }];
    let (mut console, handle) = Console::new(Some(end), ports).unwrap();
    let (mut guest, activation) = Guest::new(console.queues(), console.features());
    console.activate(activation).unwrap();
    for at in 0..u64::from(QUEUE) {
        guest.queues[IN].add(&[(INBOX + at * 64, 64, true)]);
    }
    guest.queues[IN].kick();
    Set { console, handle, guest, terminal, port, messages: 0 }
}

impl Set {
    fn say(&mut self, port: u32, event: u16, value: u16) {
        let mut message = port.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        self.guest.write(OUTBOX, &message);
        self.guest.queues[OUT].add(&[(OUTBOX, 8, false)]);
        self.guest.queues[OUT].kick();
        self.guest.wait_used(OUT);
    }

    /// The next message: port, event, value, and what follows.
    fn hear(&mut self) -> (u32, u16, u16, Vec<u8>) {
        let (head, length) = self.guest.wait_used(IN);
        assert_eq!(u64::from(head), self.messages);
        self.messages += 1;
        let bytes = self.guest.read(INBOX + u64::from(head) * 64, length as usize);
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (u32::from(short(0)) | u32::from(short(2)) << 16, short(4), short(6), bytes[8..].to_vec())
    }

    /// What Linux says and hears until all ports are there.
    fn greet(&mut self) {
        self.say(u32::MAX, 0, 1);
        assert_eq!([self.hear(), self.hear()], [(0, 1, 1, vec![]), (1, 1, 1, vec![])]);
        self.say(0, 3, 1);
        assert_eq!([self.hear(), self.hear()], [(0, 4, 1, vec![]), (0, 6, 1, vec![])]);
        self.say(1, 3, 1);
        let name = b"org.posada.test".to_vec();
        assert_eq!([self.hear(), self.hear()], [(1, 7, 1, name), (1, 6, 1, vec![])]);
    }
}

#[test]
fn ports_need_no_terminal() {
    let (mut port, end) = pair();
    let ports = vec![Port { name: "org.posada.test".to_owned(), stream: end }];
    let (mut console, handle) = Console::new(None, ports).unwrap();
    assert_eq!(console.features() >> F_SIZE & 1, 0);
    let (mut guest, activation) = Guest::new(console.queues(), console.features());
    console.activate(activation).unwrap();
    for at in 0..u64::from(QUEUE) {
        guest.queues[IN].add(&[(INBOX + at * 64, 64, true)]);
    }
    guest.queues[IN].kick();
    let mut set = Set { console, handle, guest, terminal: pair().0, port: pair().0, messages: 0 };
    set.handle.resize(80, 25);
    set.say(u32::MAX, 0, 1);
    assert_eq!(set.hear(), (1, 1, 1, vec![]));
    set.say(1, 3, 1);
    assert_eq!([set.hear(), set.hear()], [(1, 7, 1, b"org.posada.test".to_vec()), (1, 6, 1, vec![])]);
    set.say(1, 6, 1);
    port.write_all(b"hello").unwrap();
    set.guest.queues[4].add(&[(0x1000, 64, true)]);
    set.guest.queues[4].kick();
    assert_eq!(set.guest.wait_used(4), (0, 5));
    // What is written to the terminal that is not there is gone, and holds up nothing.
    set.guest.queues[1].add(&[(0x1000, 5, false)]);
    set.guest.queues[1].kick();
    set.guest.wait_used(1);
}

#[test]
fn a_lone_terminal_needs_no_control_messages() {
    let (mut terminal, end) = pair();
    let (mut console, _handle) = Console::new(Some(end), Vec::new()).unwrap();
    assert_eq!((console.queues().len(), console.features() >> F_MULTIPORT & 1), (2, 0));
    terminal.write_all(b"typed before").unwrap();
    let (mut guest, activation) = Guest::new(console.queues(), console.features());
    guest.queues[0].add(&[(0x1000, 5, true), (0x2000, 64, true)]);
    console.activate(activation).unwrap();
    assert_eq!(guest.wait_used(0), (0, 12));
    assert_eq!((guest.read(0x1000, 5), guest.read(0x2000, 7)), (b"typed".to_vec(), b" before".to_vec()));
    guest.write(0x3000, b"login: ");
    guest.queues[1].add(&[(0x3000, 5, false), (0x3005, 2, false)]);
    guest.queues[1].kick();
    guest.wait_used(1);
    let mut shown = [0; 7];
    terminal.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"login: ");
}

#[test]
fn ports_are_added_named_and_opened() {
    let mut set = set();
    set.greet();
    set.say(1, 3, 0);
    set.say(0, 77, 1);
    assert!(set.guest.said().iter().all(|signal| *signal != Signal::NeedsReset));
}

#[test]
fn bytes_for_a_port_wait_until_the_guest_opens_it() {
    let mut set = set();
    set.greet();
    set.port.write_all(b"are you there?").unwrap();
    set.guest.queues[4].add(&[(0x1000, 64, true)]);
    set.guest.queues[4].add(&[(0x2000, 64, true)]);
    set.guest.queues[4].kick();
    // The queues are served in turn, so the kick above is through when this has been.
    set.say(0, 6, 1);
    set.say(0, 6, 1);
    assert_eq!(set.guest.queues[4].used(), None);
    set.say(1, 6, 1);
    assert_eq!(set.guest.wait_used(4), (0, 14));
    set.say(1, 6, 0);
    set.port.write_all(b"again").unwrap();
    set.say(0, 6, 1);
    assert_eq!(set.guest.queues[4].used(), None);
    set.say(1, 6, 1);
    assert_eq!(set.guest.wait_used(4), (1, 5));
    assert_eq!(set.guest.read(0x2000, 5), b"again");
}

#[test]
fn a_host_that_hangs_up_is_told_after_all_it_has_sent() {
    let mut set = set();
    set.greet();
    set.say(1, 6, 1);
    set.port.write_all(b"last words").unwrap();
    let (port, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut set.port, port));
    // Writing to it is no reason to forget them.
    set.guest.queues[5].add(&[(0x3000, 64, false)]);
    set.guest.queues[5].kick();
    set.guest.wait_used(5);
    set.guest.queues[4].add(&[(0x1000, 64, true)]);
    set.guest.queues[4].add(&[(0x2000, 64, true)]);
    set.guest.queues[4].kick();
    assert_eq!(set.guest.wait_used(4), (0, 10));
    assert_eq!(set.hear(), (1, 6, 0, vec![]));
    set.guest.queues[5].add(&[(0x3000, 64, false)]);
    set.guest.queues[5].kick();
    set.guest.wait_used(5);
}

#[test]
fn a_host_that_has_only_stopped_sending_still_hears() {
    let mut set = set();
    set.greet();
    set.say(1, 6, 1);
    set.port.shutdown(std::net::Shutdown::Write).unwrap();
    set.guest.queues[4].add(&[(0x1000, 64, true)]);
    set.guest.queues[4].kick();
    set.guest.write(0x3000, b"answer");
    set.guest.queues[5].add(&[(0x3000, 6, false)]);
    set.guest.queues[5].kick();
    let mut answer = [0; 6];
    set.port.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    let (port, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut set.port, port));
    assert_eq!(set.hear(), (1, 6, 0, vec![]));
}

#[test]
fn the_guest_waits_for_a_host_that_does_not_read() {
    let mut set = set();
    set.greet();
    let total = 4 << 20;
    let bytes: Vec<u8> = (0..0x8000_u32).map(|at| (at % 253) as u8).collect();
    set.guest.write(0x40_0000, &bytes);
    let mut offered = 0;
    let mut used = 0;
    while offered < 16 {
        set.guest.queues[1].add(&[(0x40_0000, 0x8000, false)]);
        offered += 1;
    }
    set.guest.queues[1].kick();
    // Half a mebibyte is more than a socket takes, so not all chains come back.
    set.say(0, 6, 1);
    while set.guest.queues[1].used().is_some() {
        used += 1;
    }
    assert!(used < offered, "{used}");
    let mut got = vec![0; 0x8000];
    for _ in 0..total / 0x8000 {
        set.terminal.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
        if offered < total / 0x8000 {
            set.guest.queues[1].add(&[(0x40_0000, 0x8000, false)]);
            set.guest.queues[1].kick();
            offered += 1;
        }
    }
    while used < offered {
        set.guest.wait_used(1);
        used += 1;
    }
}

#[test]
fn the_terminals_size_is_told() {
    let mut set = set();
    set.greet();
    set.handle.resize(132, 43);
    while set.guest.signal() != Signal::Config {}
    assert_eq!(set.hear(), (0, 5, 1, vec![132, 0, 43, 0]));
    let mut space = [0xee; 10];
    set.console.read_config(0, &mut space);
    assert_eq!(space, [132, 0, 43, 0, 2, 0, 0, 0, 0xee, 0xee]);
    set.console.read_config(u64::MAX, &mut space);
    let set = self::set();
    set.handle.resize(80, 25);
    while set.guest.signal() != Signal::Config {}
    set.handle.resize(80, 25);
    assert!(!set.guest.said().contains(&Signal::Config), "nothing has changed");
}

#[test]
fn is_quiet_when_nothing_happens() {
    let mut set = set();
    set.greet();
    // Neither bytes without buffers, nor one that has hung up, keep the worker busy.
    set.terminal.write_all(b"typed").unwrap();
    set.say(0, 6, 1);
    set.say(1, 6, 1);
    set.port.write_all(b"and gone").unwrap();
    let (port, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut set.port, port));
    let busy = || set.console.worker.as_ref().unwrap().cpu_time();
    let before = busy();
    std::thread::sleep(Duration::from_millis(200));
    assert!((busy() - before).as_millis() < 20, "the worker spins");
}

#[test]
fn is_reset_and_activated_again() {
    let mut set = set();
    set.greet();
    set.console.reset();
    set.terminal.write_all(b"typed").unwrap();
    let (mut guest, activation) = Guest::new(&[QUEUE; 2], 0);
    set.console.activate(activation).unwrap();
    guest.queues[0].add(&[(0x1000, 64, true)]);
    guest.queues[0].kick();
    assert_eq!(guest.wait_used(0), (0, 5));
    let (_guest, activation) = Guest::new(&[QUEUE; 2], set.console.features());
    set.console.reset();
    assert!(set.console.activate(activation).is_err(), "without control queues there are no ports");
}

#[test]
fn nonsense_asks_for_a_reset() {
    let outside = MEMORY as u64;
    let bad: [(usize, (u64, u32, bool)); 8] = [
        (0, (0x1000, 64, false)),
        (0, (outside, 64, true)),
        (1, (0x1000, 64, true)),
        (1, (outside - 8, 64, false)),
        (OUT, (0x1000, 7, false)),
        (OUT, (0x1000, 8, true)),
        // A port that is not there.
        (OUT, (OUTBOX, 8, false)),
        (5, (u64::MAX, 8, false)),
    ];
    for (queue, piece) in bad {
        let mut set = set();
        set.greet();
        set.say(0, 6, 1);
        set.guest.write(OUTBOX, &[2, 0, 0, 0, 3, 0, 1, 0]);
        set.guest.queues[queue].add(&[piece]);
        set.guest.queues[queue].kick();
        set.guest.wait_needs_reset();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever a driver writes into its rings and says, the device answers or asks for a reset.
    #[test]
    fn survives_any_descriptors(
        descriptors in proptest::collection::vec((any::<u64>(), any::<u32>(), 0..8_u16, 0..80_u16), 1..12),
        heads in proptest::collection::vec(0..80_u16, 1..8),
        messages in proptest::collection::vec((0..3_u8, 0..9_u8, 0..3_u8), 0..8),
        queue in 0..6_usize,
    ) {
        let mut set = set();
        for (port, event, value) in messages {
            set.guest.write(OUTBOX, &[port, 0, 0, 0, event, 0, value, 0]);
            set.guest.queues[OUT].add(&[(OUTBOX, 8, false)]);
            set.guest.queues[OUT].kick();
        }
        for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let address = if address & 1 == 0 { address % MEMORY as u64 } else { *address };
            set.guest.queues[queue].describe(index as u16, address, *length >> (length % 32), *flags, *next);
        }
        for head in heads {
            set.guest.queues[queue].offer(head);
        }
        set.guest.queues[queue].kick();
        set.port.write_all(b"bytes").unwrap();
        drop(set);
    }
}
