//! The state machine on its own, against guests of every kind.

use proptest::prelude::*;

use super::*;

const GUEST_INITIAL: u32 = u32::MAX - 2;
const OURS: Terms = Terms { mss: 1460, window: BUFFER as u32 };

fn segment<'a>(sequence: u32, acknowledged: u32, flags: u8, window: u16, payload: &'a [u8]) -> Segment<'a> {
    Segment {
        source: 1,
        destination: 2,
        sequence,
        acknowledged,
        flags,
        window,
        mss: (flags & SYN != 0).then_some(1460),
        scale: None,
        payload,
    }
}

/// A connection whose handshake is done, and what the guest would acknowledge next.
fn open(now: Instant, window: u16) -> (Connection, u32) {
    let mut connection = Connection::held(&segment(GUEST_INITIAL, 0, SYN, window, &[]), 77, OURS);
    assert_eq!(connection.poll(now), None, "the guest is not answered before the host is reached");
    connection.establish();
    let answer = connection.poll(now).unwrap();
    assert_eq!((answer.flags, answer.acknowledged), (SYN | ACK, GUEST_INITIAL.wrapping_add(1)));
    let ours = answer.sequence.wrapping_add(1);
    let brought = connection.on_segment(&segment(GUEST_INITIAL.wrapping_add(1), ours, ACK, window, &[]), now);
    assert_eq!(brought, Brought::Nothing);
    assert!(connection.is_open());
    (connection, ours)
}

#[test]
fn sequence_numbers_wrap() {
    let now = Instant::now();
    let (mut connection, ours) = open(now, 1000);
    let at = GUEST_INITIAL.wrapping_add(1);
    for step in 0..10 {
        let sent = segment(at.wrapping_add(step), ours, ACK, 1000, b"x");
        assert_eq!(connection.on_segment(&sent, now), Brought::Data(b"x"));
    }
    assert_eq!(connection.poll(now).unwrap().acknowledged, at.wrapping_add(10));
    assert_eq!(connection.poll(now), None);
}

#[test]
fn what_came_before_is_not_taken_twice() {
    let now = Instant::now();
    let (mut connection, ours) = open(now, 1000);
    let at = GUEST_INITIAL.wrapping_add(1);
    assert_eq!(connection.on_segment(&segment(at, ours, ACK, 1000, b"abcd"), now), Brought::Data(b"abcd"));
    let overlapping = segment(at.wrapping_add(2), ours, ACK | FIN, 1000, b"cdef");
    assert_eq!(connection.on_segment(&overlapping, now), Brought::Data(b"ef"));
    assert!(connection.guest_is_done());
    assert_eq!(connection.on_segment(&overlapping, now), Brought::Nothing);
}

#[test]
fn what_came_early_follows_on_what_was_missing() {
    let now = Instant::now();
    let (mut connection, ours) = open(now, 1000);
    let at = GUEST_INITIAL.wrapping_add(1);
    let piece = |offset: u32, flags, bytes| segment(at.wrapping_add(offset), ours, flags, 1000, bytes);
    assert_eq!(connection.on_segment(&piece(4, ACK | FIN, b"ef"), now), Brought::Nothing);
    assert_eq!(connection.on_segment(&piece(2, ACK, b"cd"), now), Brought::Nothing);
    let repeated: Vec<_> = std::iter::from_fn(|| connection.poll(now)).map(|out| out.acknowledged).collect();
    assert_eq!(repeated, [at, at], "one acknowledgement for each, for the guest to count");
    assert!(!connection.guest_is_done());
    assert_eq!(connection.on_segment(&piece(0, ACK, b"ab"), now), Brought::Data(b"ab"));
    assert_eq!(connection.take_in_order(), b"cdef");
    assert!(connection.guest_is_done());
    assert_eq!(connection.poll(now).unwrap().acknowledged, at.wrapping_add(7));
}

#[test]
fn a_lost_segment_is_sent_again_by_time_and_by_repeated_acknowledgements() {
    let now = Instant::now();
    let (mut connection, ours) = open(now, 60_000);
    connection.to_guest.push(&[1; 5000]);
    let first: Vec<_> = std::iter::from_fn(|| connection.poll(now)).collect();
    assert_eq!(first.iter().map(|s| s.len).sum::<usize>(), 5000);
    let at = GUEST_INITIAL.wrapping_add(1);
    for _ in 0..3 {
        assert_eq!(connection.poll(now), None);
        connection.on_segment(&segment(at, ours, ACK, 60_000, &[]), now);
    }
    assert_eq!(connection.poll(now).unwrap().sequence, ours);
    while connection.poll(now).is_some() {}
    let later = connection.deadline().unwrap();
    connection.on_time(later).unwrap();
    assert_eq!(connection.poll(later).unwrap().sequence, ours);
    assert!(connection.deadline().unwrap() > later);
}

#[test]
fn a_closed_window_is_probed_for_as_long_as_the_guest_answers() {
    let mut now = Instant::now();
    let (mut connection, ours) = open(now, 0);
    connection.to_guest.push(b"data");
    let at = GUEST_INITIAL.wrapping_add(1);
    for _ in 0..100 {
        assert_eq!(connection.poll(now), None);
        now = connection.deadline().unwrap();
        connection.on_time(now).unwrap();
        let probe = connection.poll(now).unwrap();
        assert_eq!((probe.sequence, probe.len), (ours, 1));
        connection.on_segment(&segment(at, ours, ACK, 0, &[]), now);
    }
    connection.on_segment(&segment(at, ours, ACK, 100, &[]), now);
    let all = connection.poll(now).unwrap();
    assert_eq!((all.sequence, all.len), (ours, 4));
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    let mut now = Instant::now();
    let mut connection = Connection::held(&segment(GUEST_INITIAL, 0, SYN, 1000, &[]), 77, OURS);
    connection.establish();
    let mut sent = 0;
    loop {
        while connection.poll(now).is_some() {
            sent += 1;
        }
        now = connection.deadline().unwrap();
        if connection.on_time(now) == Err(Silent) {
            break;
        }
    }
    assert_eq!(sent, 1 + HANDSHAKE_TRIES);
}

#[derive(Debug, Clone)]
enum Step {
    Guest { sequence: i16, acknowledged: i16, flags: u8, window: u16, length: usize },
    Host(usize),
    HostTakes(usize),
    HostFinishes,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-2000_i16..2000, -2000_i16..2000, 0_u8..32, any::<u16>(), 0_usize..1460).prop_map(
            |(sequence, acknowledged, flags, window, length)|
                Step::Guest { sequence, acknowledged, flags: flags | ACK, window, length }),
        2 => (Just(0_i16), Just(0_i16), Just(ACK), any::<u16>(), 0_usize..1460).prop_map(
            |(sequence, acknowledged, flags, window, length)|
                Step::Guest { sequence, acknowledged, flags, window, length }),
        2 => (0..200_000_usize).prop_map(Step::Host),
        1 => (0..200_000_usize).prop_map(Step::HostTakes),
        1 => Just(Step::HostFinishes),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_guest_can_break_the_state_machine(steps in proptest::collection::vec(step(), 1..60), held in any::<bool>()) {
        let mut now = Instant::now();
        let mut connection = if held {
            Connection::held(&segment(GUEST_INITIAL, 0, SYN, 5000, &[]), 77, OURS)
        } else {
            open(now, 5000).0
        };
        let payload = [7; 1460];
        for step in steps {
            match step {
                Step::Guest { sequence, acknowledged, flags, window, length } => {
                    let sequence = connection.expected.wrapping_add_signed(sequence.into());
                    let acknowledged = connection.highest.wrapping_add_signed(acknowledged.into());
                    let sent = segment(sequence, acknowledged, flags, window, &payload[..length]);
                    if let Brought::Data(bytes) = connection.on_segment(&sent, now) {
                        connection.to_host.push(bytes);
                        let early = connection.take_in_order();
                        connection.to_host.push(&early);
                    }
                }
                Step::Host(count) if !connection.host_is_done() => {
                    connection.to_guest.push(&vec![1; count.min(connection.to_guest.room())]);
                }
                Step::Host(_) => {}
                Step::HostTakes(count) => connection.to_host.consume(count.min(connection.to_host.len())),
                Step::HostFinishes if connection.is_open() => connection.finish(),
                Step::HostFinishes => connection.establish(),
                Step::Wait => {
                    if let Some(deadline) = connection.deadline() {
                        now = now.max(deadline);
                        if connection.on_time(now).is_err() {
                            return Ok(());
                        }
                    }
                }
            }
            // It never sends without end, never what it has not got, never more than the guest takes.
            let mut sent = 0;
            while let Some(out) = connection.poll(now) {
                sent += 1;
                prop_assert!(sent < 2000);
                if out.len > 0 {
                    prop_assert!(out.offset + out.len <= connection.to_guest.len());
                    prop_assert!(out.len <= connection.mss);
                    let end = out.offset + out.len;
                    prop_assert!(end <= connection.guest_window as usize || (out.len == 1 && connection.guest_window == 0));
                }
            }
            prop_assert!(connection.to_host.len() <= BUFFER);
        }
    }
}

#[test]
fn a_dial_is_repeated_evenly_so_that_a_guest_is_reached_as_soon_as_it_is_up() {
    let began = Instant::now();
    let mut now = began;
    let mut connection = Connection::dial(77, OURS);
    let mut sent = 0;
    loop {
        let syn = connection.poll(now).unwrap();
        assert_eq!((syn.flags, syn.sequence), (SYN, 77), "each is the same segment");
        sent += 1;
        assert_eq!(connection.poll(now), None);
        now = connection.deadline().unwrap();
        assert_eq!(now, began + FIRST_TIMEOUT * sent);
        if connection.on_time(now) == Err(Silent) {
            break;
        }
    }
    assert_eq!(sent, 1 + DIAL_TRIES);
}
