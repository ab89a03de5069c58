//! Connections of a driver written by hand to real sockets of the host.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::header::{HOST, Header, LENGTH, NEITHER, NO_RECEIVE, NO_SEND, Operation, Ports};
use super::*;
use crate::virtio::testing::{Guest, MEMORY, Signal};

const CID: u64 = 7;
const RX: usize = RECEIVE as usize;
const TX: usize = TRANSMIT as usize;
const BUFFERS: u64 = 0x10_0000;
const OUTGOING: u64 = 0x40_0000;
/// How much room the driver says it has.
const ROOM: u32 = 256 << 10;

struct Set {
    vsock: Vsock,
    guest: Guest,
    directory: tempfile::TempDir,
    /// What the driver tells of itself in each packet.
    room: u32,
    forwarded: u32,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("v.sock")
}

fn set() -> Set {
    let mut set = set_without_buffers();
    set.give(u64::from(QUEUE));
    set
}

fn set_without_buffers() -> Set {
    let directory = tempfile::tempdir().unwrap();
    let mut vsock = Vsock::new(CID, path(directory.path())).unwrap();
    let (guest, activation) = Guest::new(&[QUEUE; 3], vsock.features());
    vsock.activate(activation).unwrap();
    Set { vsock, guest, directory, room: ROOM, forwarded: 0 }
}

impl Set {
    /// Gives buffers of 4 KiB to the device, the first `count`.
    fn give(&mut self, count: u64) {
        for at in 0..count {
            self.guest.queues[RX].add(&[(BUFFERS + at * 0x1000, 0x1000, true)]);
        }
        self.guest.queues[RX].kick();
    }

    /// The next packet to the guest; its buffer is given back.
    fn hear(&mut self) -> (Header, Vec<u8>) {
        let (head, length) = self.guest.wait_used(RX);
        let at = BUFFERS + u64::from(head) * 0x1000;
        let bytes = self.guest.read(at, length as usize);
        let header = Header::parse(bytes[..LENGTH].try_into().unwrap());
        assert_eq!((header.source_cid, header.destination_cid, header.kind), (HOST, CID, 1));
        assert_eq!(header.length as usize, bytes.len() - LENGTH);
        self.guest.queues[RX].add(&[(at, 0x1000, true)]);
        self.guest.queues[RX].kick();
        (header, bytes[LENGTH..].to_vec())
    }

    fn hear_operation(&mut self, operation: Operation) -> Header {
        let (header, _) = self.hear();
        assert_eq!(header.operation, operation as u16, "{header:?}");
        header
    }

    fn header(&self, ports: Ports, operation: Operation) -> Header {
        Header {
            source_cid: CID,
            destination_cid: HOST,
            source_port: ports.guest,
            destination_port: ports.host,
            length: 0,
            kind: header::STREAM,
            operation: operation as u16,
            flags: 0,
            buf_alloc: self.room,
            fwd_cnt: self.forwarded,
        }
    }

    /// Sends a packet as it is; returns when the device has taken it.
    fn send_raw(&mut self, header: Header, data: &[u8]) {
        self.guest.write(OUTGOING, &header.bytes());
        self.guest.write(OUTGOING + LENGTH as u64, data);
        self.guest.queues[TX].add(&[(OUTGOING, (LENGTH + data.len()) as u32, false)]);
        self.guest.queues[TX].kick();
        self.guest.wait_used(TX);
    }

    fn send(&mut self, ports: Ports, operation: Operation, data: &[u8]) {
        let header = Header { length: data.len() as u32, ..self.header(ports, operation) };
        self.send_raw(header, data);
    }

    fn shut_down(&mut self, ports: Ports, flags: u32) {
        let header = Header { flags, ..self.header(ports, Operation::Shutdown) };
        self.send_raw(header, &[]);
    }

    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.directory.path().join(format!("v.sock_{port}"))).unwrap()
    }

    fn connect(&self) -> UnixStream {
        patient(UnixStream::connect(path(self.directory.path())).unwrap())
    }

    /// A connection that the guest has made.
    fn outgoing(&mut self) -> (Ports, UnixStream) {
        let ports = Ports { host: 80, guest: 1024 };
        let listener = self.listen(80);
        self.send(ports, Operation::Request, &[]);
        self.hear_operation(Operation::Response);
        (ports, patient(listener.accept().unwrap().0))
    }
}

fn patient(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn read(stream: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_guest_connects_to_a_socket_of_the_host() {
    let mut set = set();
    let (ports, mut stream) = set.outgoing();
    set.send(ports, Operation::Data, b"to the host");
    assert_eq!(read(&mut stream, 11), b"to the host");
    stream.write_all(b"to the guest").unwrap();
    let (header, data) = set.hear();
    assert_eq!((header.operation, header.ports()), (5, Ports { host: 1024, guest: 80 }));
    assert_eq!((data.as_slice(), header.fwd_cnt), (&b"to the guest"[..], 11));
    set.shut_down(ports, NEITHER);
    set.hear_operation(Operation::Reset);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // It is over: the ports can be used again, as far as there is a listener.
    set.send(ports, Operation::Data, b"late");
    set.hear_operation(Operation::Reset);
}

#[test]
fn a_client_of_the_host_connects_to_the_guest() {
    let mut set = set();
    let mut client = set.connect();
    client.write_all(b"CONN").unwrap();
    client.write_all(b"ECT 22\nhello").unwrap();
    let request = set.hear_operation(Operation::Request);
    assert_eq!((request.destination_port, request.buf_alloc), (22, connection::ROOM));
    let ports = Ports { host: request.source_port, guest: 22 };
    set.send(ports, Operation::Response, &[]);
    let expected = format!("OK {}\n", ports.host);
    assert_eq!(read(&mut client, expected.len()), expected.as_bytes());
    let (header, data) = set.hear();
    assert_eq!((header.operation, data.as_slice()), (5, &b"hello"[..]));
    drop(client);
    assert_eq!(set.hear_operation(Operation::Shutdown).flags, NEITHER);
    set.send(ports, Operation::Reset, &[]);
    set.send(ports, Operation::Data, b"late");
    set.hear_operation(Operation::Reset);
}

#[test]
fn a_refusal_of_the_guest_ends_the_client() {
    let mut set = set();
    let mut client = set.connect();
    client.write_all(b"CONNECT 22\n").unwrap();
    let request = set.hear_operation(Operation::Request);
    set.send(Ports { host: request.source_port, guest: 22 }, Operation::Reset, &[]);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_goes_before_the_answer_is_a_reset() {
    let mut set = set();
    let mut client = set.connect();
    client.write_all(b"CONNECT 22\n").unwrap();
    set.hear_operation(Operation::Request);
    drop(client);
    set.hear_operation(Operation::Reset);
}

#[test]
fn clients_that_talk_nonsense_are_dropped() {
    let set = set();
    for nonsense in
        [&b"GET / HTTP/1.1\r\n"[..], b"CONNECT x\n", b"CONNECT 000000000000000000000000000000\n", b"\n"]
    {
        let mut client = set.connect();
        client.write_all(nonsense).unwrap();
        // What it sent and nobody read makes this a reset rather than an end.
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "{nonsense:?}");
    }
}

#[test]
fn where_nobody_listens_the_guest_is_refused() {
    let mut set = set();
    set.send(Ports { host: 81, guest: 5 }, Operation::Request, &[]);
    let refusal = set.hear_operation(Operation::Reset);
    assert_eq!((refusal.source_port, refusal.destination_port), (81, 5));
}

#[test]
fn half_closed_connections_carry_the_other_direction() {
    let mut set = set();
    let (ports, mut stream) = set.outgoing();
    set.shut_down(ports, NO_SEND);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"answer").unwrap();
    assert_eq!(set.hear().1, b"answer");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(set.hear_operation(Operation::Shutdown).flags & NO_SEND, NO_SEND);

    let mut set = self::set();
    let (ports, mut stream) = set.outgoing();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(set.hear_operation(Operation::Shutdown).flags, NO_SEND);
    set.send(ports, Operation::Data, b"still heard");
    assert_eq!(read(&mut stream, 11), b"still heard");
    drop(stream);
    assert_eq!(set.hear_operation(Operation::Shutdown).flags, NEITHER);
}

#[test]
fn a_guest_that_receives_no_more_is_not_sent_anything() {
    let mut set = set();
    let (ports, mut stream) = set.outgoing();
    set.shut_down(ports, NO_RECEIVE);
    assert!(stream.write_all(b"for nobody").is_err());
    set.send(ports, Operation::Data, b"heard");
    assert_eq!(read(&mut stream, 5), b"heard");
}

#[test]
fn no_more_is_sent_than_the_guest_has_room_for() {
    let mut set = set();
    set.room = 10_000;
    let (ports, mut stream) = set.outgoing();
    stream.write_all(&[1; 25_000]).unwrap();
    let mut got = 0;
    while got < 25_000 {
        let (header, data) = set.hear();
        match Operation::parse(header.operation).unwrap() {
            Operation::Data => {
                got += data.len();
                assert!(got as u32 - set.forwarded <= set.room);
            }
            operation => {
                assert_eq!(operation, Operation::CreditRequest);
                assert_eq!(got as u32 - set.forwarded, set.room, "there was room left");
                set.forwarded = got as u32;
                set.send(ports, Operation::CreditUpdate, &[]);
            }
        }
    }
    assert_eq!(got, 25_000);
}

#[test]
fn the_guest_is_told_of_room_as_the_host_reads() {
    let mut set = set();
    let (ports, mut stream) = set.outgoing();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let (mut sent, mut forwarded) = (0_u32, 0_u32);
    let total = 8 << 20;
    let bytes: Vec<u8> = (0..0x8000_u32).map(|at| (at % 251) as u8).collect();
    while sent < total {
        while connection::ROOM - (sent - forwarded) < bytes.len() as u32 {
            forwarded = set.hear_operation(Operation::CreditUpdate).fwd_cnt;
        }
        set.send(ports, Operation::Data, &bytes);
        sent += bytes.len() as u32;
    }
    set.shut_down(ports, NEITHER);
    let all = reader.join().unwrap();
    assert_eq!(all.len(), total as usize);
    assert!(all.chunks(bytes.len()).all(|chunk| chunk == bytes));
}

#[test]
fn what_a_closing_guest_has_sent_reaches_a_slow_host() {
    let mut set = set();
    let (ports, mut stream) = set.outgoing();
    // As much as fits, without the host reading any of it.
    let mut sent = 0_u32;
    let mut forwarded = 0_u32;
    loop {
        set.send(ports, Operation::CreditRequest, &[]);
        forwarded = set.hear_operation(Operation::CreditUpdate).fwd_cnt.max(forwarded);
        let room = connection::ROOM - (sent - forwarded);
        if room == 0 {
            break;
        }
        set.send(ports, Operation::Data, &vec![9; room as usize]);
        sent += room;
    }
    set.shut_down(ports, NEITHER);
    while set.hear().0.operation != Operation::Reset as u16 {}
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent as usize);
}

#[test]
fn a_guest_that_sends_more_than_there_is_room_for_is_reset() {
    let mut set = set();
    let (ports, _stream) = set.outgoing();
    for _ in 0..64 {
        set.send(ports, Operation::Data, &[0; 60_000]);
    }
    while set.hear().0.operation != Operation::Reset as u16 {}
}

#[test]
fn answers_wait_for_buffers_and_are_bounded() {
    let mut set = set_without_buffers();
    let bad = set.header(Ports { host: 81, guest: 5 }, Operation::Data);
    set.guest.write(OUTGOING, &bad.bytes());
    let mut offered = 0;
    let mut taken = 0;
    // More than the device keeps: it stops hearing.
    while offered < 500 {
        for _ in 0..50 {
            set.guest.queues[TX].add(&[(OUTGOING, LENGTH as u32, false)]);
        }
        offered += 50;
        set.guest.queues[TX].kick();
        while taken + 200 < offered && taken < 256 {
            set.guest.wait_used(TX);
            taken += 1;
        }
        if offered - taken >= 200 {
            break;
        }
    }
    set.give(u64::from(QUEUE));
    for _ in 0..offered {
        set.hear_operation(Operation::Reset);
    }
}

#[test]
fn headers_that_are_not_for_this_device_are_refused_or_passed_over() {
    let mut set = set();
    let ports = Ports { host: 80, guest: 1024 };
    let _listener = set.listen(80);
    let good = set.header(ports, Operation::Request);
    let other = |set: &mut Set| {
        let (head, length) = set.guest.wait_used(RX);
        let bytes = set.guest.read(BUFFERS + u64::from(head) * 0x1000, length as usize);
        Header::parse(bytes[..].try_into().unwrap())
    };
    set.send_raw(Header { destination_cid: 9, ..good }, &[]);
    assert_eq!(other(&mut set).operation, Operation::Reset as u16);
    set.send_raw(Header { kind: 2, ..good }, &[]);
    let refusal = other(&mut set);
    assert_eq!((refusal.operation, refusal.kind), (Operation::Reset as u16, 2));
    for quiet in [Header { source_cid: 1, ..good }, Header { operation: Operation::Reset as u16, ..good }] {
        set.send_raw(quiet, &[]);
    }
    set.send_raw(Header { operation: 99, ..good }, &[]);
    assert_eq!(other(&mut set).operation, Operation::Reset as u16);
    // A second request for the same ports ends the first.
    set.send_raw(good, &[]);
    assert_eq!(other(&mut set).operation, Operation::Response as u16);
    set.send_raw(good, &[]);
    assert_eq!(other(&mut set).operation, Operation::Reset as u16);
}

#[test]
fn connections_are_limited() {
    let mut set = set();
    let _listener = set.listen(80);
    let clients: Vec<_> = (0..table::MOST).map(|_| set.connect()).collect();
    let mut client = set.connect();
    client.write_all(b"CONNECT 22\n").unwrap();
    set.send(Ports { host: 80, guest: 1 }, Operation::Request, &[]);
    // It is refused when all others are in; until then it is accepted.
    loop {
        match Operation::parse(set.hear().0.operation) {
            Some(Operation::Reset) => break,
            operation => assert_eq!(operation, Some(Operation::Response)),
        }
        set.shut_down(Ports { host: 80, guest: 1 }, NEITHER);
        set.hear_operation(Operation::Reset);
        set.send(Ports { host: 80, guest: 1 }, Operation::Request, &[]);
    }
    drop(clients);
    set.hear_operation(Operation::Request);
}

#[test]
fn is_quiet_when_nothing_happens() {
    let mut set = set_without_buffers();
    let listener = set.listen(80);
    set.send(Ports { host: 80, guest: 1 }, Operation::Request, &[]);
    let mut stream = listener.accept().unwrap().0;
    stream.write_all(b"and gone").unwrap();
    drop(stream);
    let mut client = set.connect();
    client.write_all(b"CONNECT").unwrap();
    let busy = || set.vsock.worker.as_ref().unwrap().cpu_time();
    let before = busy();
    std::thread::sleep(Duration::from_millis(200));
    assert!((busy() - before).as_millis() < 20, "the worker spins");
    assert!(set.guest.said().iter().all(|signal| *signal != Signal::NeedsReset));
}

#[test]
fn a_reset_ends_connections_and_clients_wait_for_the_next_driver() {
    let mut set = set();
    let (_ports, mut stream) = set.outgoing();
    set.vsock.reset();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let mut client = set.connect();
    client.write_all(b"CONNECT 22\n").unwrap();
    let (guest, activation) = Guest::new(&[QUEUE; 3], set.vsock.features());
    set.vsock.activate(activation).unwrap();
    set.guest = guest;
    set.give(8);
    set.hear_operation(Operation::Request);
}

#[test]
fn a_path_is_taken_over_from_the_dead_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path());
    drop(UnixListener::bind(&path).unwrap());
    let vsock = Vsock::new(CID, &path).unwrap();
    assert!(matches!(Vsock::new(CID, &path), Err(VsockError::Listen { .. })));
    drop(vsock);
    assert!(!path.exists());
    fs_err::write(&path, "a file").unwrap();
    assert!(matches!(Vsock::new(CID, &path), Err(VsockError::Listen { .. })));
    assert_eq!(fs_err::read(&path).unwrap(), b"a file");
    assert!(matches!(Vsock::new(2, &path), Err(VsockError::Cid(2))));
    assert!(matches!(Vsock::new(u64::from(u32::MAX), &path), Err(VsockError::Cid(_))));
}

#[test]
fn nonsense_asks_for_a_reset() {
    let outside = MEMORY as u64;
    let long = Header { length: 100, ..Header::to_guest(CID, Ports { host: 1, guest: 2 }, Operation::Data) };
    let bad: [(usize, (u64, u32, bool)); 7] = [
        (TX, (0x1000, 43, false)),
        (TX, (0x1000, 64, true)),
        (TX, (0x1000, 0x10_0000, false)),
        (TX, (outside - 8, 64, false)),
        // More data in the header than in the chain.
        (TX, (0x3000, 64, false)),
        (RX, (0x1000, 44, true)),
        (RX, (0x1000, 64, false)),
    ];
    for (queue, piece) in bad {
        let mut set = set_without_buffers();
        set.guest.write(0x3000, &long.bytes());
        set.guest.queues[queue].add(&[piece]);
        set.guest.queues[queue].kick();
        if queue == RX {
            // They are looked at when there is something to say.
            let refused = set.header(Ports { host: 81, guest: 5 }, Operation::Request);
            set.guest.write(OUTGOING, &refused.bytes());
            set.guest.queues[TX].add(&[(OUTGOING, LENGTH as u32, false)]);
            set.guest.queues[TX].kick();
        }
        set.guest.wait_needs_reset();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Headers are what their bytes are.
    #[test]
    fn headers_go_there_and_back(raw in any::<[u8; 32]>(), tail in any::<[u8; 12]>()) {
        let mut bytes = [0; LENGTH];
        bytes[..32].copy_from_slice(&raw);
        bytes[32..].copy_from_slice(&tail);
        prop_assert_eq!(Header::parse(&bytes).bytes(), bytes);
    }

    /// Whatever packets the guest sends on a few ports, each is taken, and the device still works.
    #[test]
    fn survives_any_packets(
        packets in proptest::collection::vec(
            (0..3_u32, 0..3_u32, 0..9_u16, any::<u32>(), any::<u32>(), any::<u32>(), 0..2000_u32), 1..40),
        bytes in 0..9000_usize,
    ) {
        let mut set = set();
        let listener = set.listen(1);
        let mut client = set.connect();
        client.write_all(b"CONNECT 2\n").unwrap();
        client.write_all(&vec![5; bytes]).unwrap();
        for (host, guest, operation, flags, buf_alloc, fwd_cnt, length) in packets {
            let host = if host == 2 { 1 << 30 } else { host };
            let header = Header {
                operation, flags, buf_alloc, fwd_cnt, length,
                ..set.header(Ports { host, guest }, Operation::Data)
            };
            set.send_raw(header, &vec![3; length as usize]);
        }
        // The listener's own queue is not what is tested here.
        drop(listener);
        set.send(Ports { host: 99, guest: 99 }, Operation::Request, &[]);
        loop {
            let (header, _) = set.hear();
            if header.source_port == 99 {
                prop_assert_eq!(header.operation, Operation::Reset as u16);
                break;
            }
        }
    }

    /// Whatever a driver writes into its rings, the device answers or asks for a reset.
    #[test]
    fn survives_any_descriptors(
        descriptors in proptest::collection::vec((any::<u64>(), any::<u32>(), 0..8_u16, 0..300_u16), 1..12),
        heads in proptest::collection::vec(0..300_u16, 1..8),
        queue in 0..3_usize,
    ) {
        let mut set = set_without_buffers();
        let refused = set.header(Ports { host: 81, guest: 5 }, Operation::Request);
        set.guest.write(OUTGOING, &refused.bytes());
        set.guest.queues[TX].add(&[(OUTGOING, LENGTH as u32, false)]);
        for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let address = if address & 1 == 0 { address % MEMORY as u64 } else { *address };
            let index = if queue == TX { index + 1 } else { index };
            set.guest.queues[queue].describe(index as u16, address, *length >> (length % 32), *flags, *next);
        }
        for head in heads {
            set.guest.queues[queue].offer(head);
        }
        set.guest.queues[queue].kick();
        set.guest.queues[TX].kick();
        drop(set);
    }
}
