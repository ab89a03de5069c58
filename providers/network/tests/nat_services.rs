//! What the NAT does besides TCP: DHCP, DNS, UDP, ICMP, and surviving whatever a guest sends.

mod common;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::world::{MAC, Namespace, WORLD, World};
use common::{output, run};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use posada_network::nat::{Limits, Nat, NatConfig};
use posada_provider_api::Protocol;
use posada_provider_api::network::management::{DNS, GATEWAY, GUEST, MTU};
use proptest::prelude::*;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

fn config() -> NatConfig {
    NatConfig::new(MAC, "web", "/nonexistent/resolv.conf")
}

fn udp_echo(world: &World, address: Ipv4Addr) -> u16 {
    let socket = world.host.run(move || UdpSocket::bind((address, 0)).unwrap());
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    port
}

fn guest_socket(to: impl Into<SocketAddr>) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(to.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

#[test]
fn datagrams_of_every_size_come_back() {
    for mtu in [MTU, 1500, 576] {
        let world = World::with(NatConfig { mtu, ..config() }, true, |tap, _| tap);
        let ports = [(WORLD, udp_echo(&world, WORLD)), (GATEWAY, udp_echo(&world, Ipv4Addr::LOCALHOST))];
        world.guest.run(move || {
            for to in ports {
                let socket = guest_socket(to);
                for length in [0, 1, 548, 549, 1472, 1473, 9_000, 65_507] {
                    let sent: Vec<u8> = (0..length).map(|n| n as u8).collect();
                    socket.send(&sent).unwrap();
                    let mut back = vec![0; 65_536];
                    let count = socket.recv(&mut back).unwrap_or_else(|e| panic!("{length} over {mtu}: {e}"));
                    assert!(back[..count] == sent, "{length} over {mtu}");
                }
            }
        });
    }
}

#[test]
fn a_closed_udp_port_refuses() {
    let world = World::new();
    let port = world.host.run(|| UdpSocket::bind((WORLD, 0)).unwrap().local_addr().unwrap().port());
    world.guest.run(move || {
        let socket = guest_socket((WORLD, port));
        socket.send(b"anybody?").unwrap();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let socket = guest_socket("203.0.113.9:9".parse::<SocketAddr>().unwrap());
        // Without this, Linux keeps from UDP what may be better in a moment.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4RecvErr, &true).unwrap();
        socket.send(b"anybody?").unwrap();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
    });
}

#[tokio::test]
async fn udp_associations_are_bounded() {
    let limits = Limits { udp: 10, ..Limits::default() };
    let world = World::with(NatConfig { limits, ..config() }, true, |tap, _| tap);
    let port = udp_echo(&world, WORLD);
    world.guest.run(move || {
        for _ in 0..200 {
            let socket = guest_socket((WORLD, port));
            socket.send(b"hello").unwrap();
            assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
        }
    });
    assert_eq!(world.nat.counts().await.unwrap().udp, 10);
}

#[tokio::test]
async fn the_host_dials_a_udp_port_of_the_guest() {
    let world = World::new();
    let socket = world.guest.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            buffer[..length].reverse();
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    let end = world.nat.dial(Protocol::Udp, port).await.unwrap();
    rustix::io::ioctl_fionbio(&end, false).unwrap();
    rustix::net::send(&end, b"posada", SendFlags::empty()).unwrap();
    let mut back = [0; 100];
    let (length, _) = rustix::net::recv(&end, &mut back, RecvFlags::empty()).unwrap();
    assert_eq!(&back[..length], b"adasop");
    drop(end);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while world.nat.counts().await.unwrap().udp > 0 {
        assert!(std::time::Instant::now() < deadline, "the association outlives its end");
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_stock_dhcp_client_gets_the_lease() {
    let world = World::with(config(), false, |tap, _| tap);
    let dir = tempfile::tempdir().unwrap();
    let (script, lease) = (dir.path().join("script"), dir.path().join("lease"));
    let text = format!("#!/bin/sh\n[ \"$1\" = bound ] && env > {}\nexit 0\n", lease.display());
    fs_err::write(&script, text).unwrap();
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!("busybox udhcpc -i eth0 -n -q -f -O mtu -O hostname -s {}", script.display());
    let done = world.guest.run(move || output(&line));
    assert!(done.status.success(), "udhcpc (Debian's `busybox`): {}", String::from_utf8_lossy(&done.stderr));
    let lease = fs_err::read_to_string(lease).unwrap();
    for wanted in [
        "ip=10.0.2.15",
        "mask=24",
        "router=10.0.2.2",
        "dns=10.0.2.3",
        "hostname=web",
        "mtu=65520",
        "lease=86400",
    ] {
        assert!(lease.lines().any(|line| line == wanted), "{wanted} in {lease}");
    }
}

#[test]
fn echoes_are_answered_by_the_gateway_and_by_the_world() {
    let world = World::new();
    // Ping sockets are what an ordinary user may have; here they are allowed in this namespace alone.
    world.host.run(|| fs_err::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")).unwrap();
    world.guest.run(|| {
        for address in [GATEWAY, DNS, WORLD] {
            let shown = run(&format!("busybox ping -c 2 -i 0.01 -W 5 -s 1000 {address}"));
            assert!(shown.contains("2 packets received"), "{shown}");
        }
    });
}

/// A name server that knows one name, with an answer of its own.
struct NameServer {
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(host: &Namespace, address: Ipv4Addr, answer: Ipv4Addr) -> Self {
        let (udp, tcp) = host.run(move || {
            (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap())
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                udp.send_to(&respond(&buffer[..length], answer), from).unwrap();
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let reply = respond(&question, answer);
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
        Self { asked }
    }
}

fn respond(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let asked = Message::from_vec(question).unwrap();
    let mut reply = Message::response(asked.metadata.id, OpCode::Query);
    let name = asked.queries[0].name().clone();
    reply.add_queries(asked.queries);
    reply.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
    reply.to_vec().unwrap()
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

type Answer = Result<Ipv4Addr, ResponseCode>;

fn read(reply: &[u8]) -> Answer {
    let reply = Message::from_vec(reply).unwrap();
    assert_eq!(reply.metadata.id, 4711);
    match reply.answers.first().map(|record| &record.data) {
        Some(RData::A(A(address))) => Ok(*address),
        _ => Err(reply.metadata.response_code),
    }
}

fn lookup(name: &str) -> Answer {
    let socket = guest_socket((DNS, 53));
    socket.send(&question(name)).unwrap();
    let mut reply = [0; 1500];
    let length = socket.recv(&mut reply).unwrap();
    read(&reply[..length])
}

fn lookup_over_tcp(names: &[&str]) -> Vec<Answer> {
    let mut stream = TcpStream::connect((DNS, 53)).unwrap();
    names
        .iter()
        .map(|name| {
            let question = question(name);
            stream.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&question).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).unwrap();
            read(&reply)
        })
        .collect()
}

fn with_resolv_conf(path: &Path) -> World {
    let names = BTreeMap::from([("db.posada.internal".to_owned(), Ipv4Addr::new(192, 168, 56, 11))]);
    World::with(NatConfig { names, resolv_conf: path.to_owned(), ..config() }, true, |tap, _| tap)
}

#[test]
fn names_are_answered_here_or_by_the_hosts_name_servers() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    let world = with_resolv_conf(&conf);
    let elsewhere = Ipv4Addr::new(198, 51, 100, 7);

    // Nobody to ask: the file is not there.
    assert_eq!(world.guest.run(|| lookup("example.org.")), Err(ResponseCode::ServFail));
    assert_eq!(world.guest.run(|| lookup("host.posada.internal.")), Ok(GATEWAY));
    assert_eq!(world.guest.run(|| lookup("db.posada.internal.")), Ok(Ipv4Addr::new(192, 168, 56, 11)));
    assert_eq!(world.guest.run(|| lookup("gone.posada.internal.")), Err(ResponseCode::NXDomain));

    // A server on the host's own loopback, as systemd-resolved is; the first of the list is not there.
    let server = NameServer::start(&world.host, Ipv4Addr::LOCALHOST, elsewhere);
    fs_err::write(&conf, "nameserver 127.0.0.9\nnameserver 127.0.0.1\n").unwrap();
    assert_eq!(world.guest.run(|| lookup("example.org.")), Ok(elsewhere));
    let names = ["example.org.", "host.posada.internal.", "example.net."];
    let answers = world.guest.run(move || lookup_over_tcp(&names));
    assert_eq!(answers, [Ok(elsewhere), Ok(GATEWAY), Ok(elsewhere)]);
    assert_eq!(server.asked.load(Ordering::Relaxed), 1, "names of ours never leave the host");

    // The host has moved to another network.
    let new = Ipv4Addr::new(198, 51, 100, 8);
    NameServer::start(&world.host, Ipv4Addr::new(127, 0, 0, 3), new);
    let other = dir.path().join("other");
    fs_err::write(&other, "nameserver 127.0.0.3\n").unwrap();
    fs_err::rename(&other, &conf).unwrap();
    assert_eq!(world.guest.run(|| lookup("example.org.")), Ok(new));
}

#[test]
fn a_silent_name_server_is_passed_over_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    fs_err::write(&conf, "nameserver 127.0.0.5\nnameserver 127.0.0.1\n").unwrap();
    let world = with_resolv_conf(&conf);
    let silent = world.host.run(|| UdpSocket::bind("127.0.0.5:53").unwrap());
    let answer = Ipv4Addr::new(198, 51, 100, 7);
    NameServer::start(&world.host, Ipv4Addr::LOCALHOST, answer);
    for _ in 0..3 {
        assert_eq!(world.guest.run(|| lookup("example.org.")), Ok(answer));
    }
    silent.set_nonblocking(true).unwrap();
    silent.recv(&mut [0; 512]).expect("it was asked first");
    let again = silent.recv(&mut [0; 512]).expect_err("and not again");
    assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
}

/// A cable of which the test holds the other end.
fn cable(kind: SocketType) -> (OwnedFd, Nat) {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    (ours, Nat::start(theirs, config()).unwrap())
}

fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&GUEST.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&GATEWAY.octets());
    frame
}

/// Reads frames until the gateway's answer to [`arp_request`].
fn await_arp(cable: &OwnedFd) {
    rustix::net::sockopt::set_socket_timeout(
        cable,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_secs(10)),
    )
    .unwrap();
    let mut frame = vec![0; 70_000];
    loop {
        let (length, _) =
            rustix::net::recv(cable, &mut frame[..], RecvFlags::empty()).expect("the NAT lives");
        if frame[12..14] == [8, 6] && length >= 42 {
            assert_eq!(frame[28..32], GATEWAY.octets());
            return;
        }
    }
}

fn has_thread(name: &str) -> bool {
    fs_err::read_dir("/proc/self/task").unwrap().flatten().any(|task| {
        fs_err::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

#[test]
fn dropping_it_leaves_no_thread_and_no_descriptor() {
    // The first runtime of a process makes descriptors that stay.
    drop(cable(SocketType::SEQPACKET));
    for kind in [SocketType::SEQPACKET, SocketType::DGRAM] {
        let before = fs_err::read_dir("/proc/self/fd").unwrap().count();
        let (end, nat) = cable(kind);
        rustix::net::send(&end, &arp_request(), SendFlags::empty()).unwrap();
        await_arp(&end);
        assert!(has_thread("posada-nat"));
        drop(nat);
        assert!(!has_thread("posada-nat"));
        drop(end);
        assert_eq!(fs_err::read_dir("/proc/self/fd").unwrap().count(), before);
    }
}

#[tokio::test]
async fn a_cable_that_is_cut_ends_what_runs_over_it() {
    let (end, nat) = cable(SocketType::SEQPACKET);
    drop(end);
    let error = nat.dial(Protocol::Tcp, 22).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn an_mtu_that_no_internet_has_is_refused() {
    let (_end, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    let error = Nat::start(theirs, NatConfig { mtu: 100, ..config() }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Frames that get further the better they are shaped.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let raw = proptest::collection::vec(any::<u8>(), 0..200);
    let arp = proptest::collection::vec(any::<u8>(), 0..60)
        .prop_map(|body| [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4], &body].concat());
    let destination = prop_oneof![
        Just(GATEWAY),
        Just(DNS),
        Just(Ipv4Addr::BROADCAST),
        Just(Ipv4Addr::new(192, 0, 2, 99)),
        any::<u32>().prop_map(Ipv4Addr::from),
    ];
    let protocol = prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()];
    let port = prop_oneof![Just(53_u16), Just(67), Just(68), Just(7), any::<u16>()];
    let fragment = prop_oneof![4 => Just(0_u16), 1 => any::<u16>()];
    let body = proptest::collection::vec(any::<u8>(), 0..120);
    let ip = (destination, protocol, (port.clone(), port), fragment, body).prop_map(
        |(to, protocol, (from_port, to_port), fragment, mut body)| {
            if body.len() >= 20 {
                body[..2].copy_from_slice(&from_port.to_be_bytes());
                body[2..4].copy_from_slice(&to_port.to_be_bytes());
                match protocol {
                    // A TCP header's length, a UDP datagram's length, an echo.
                    6 => body[12] = 0x50 | body[12] & 1,
                    17 => {
                        let length = (body.len() as u16).to_be_bytes();
                        body[4..6].copy_from_slice(&length);
                    }
                    1 => body[0] = 8,
                    _ => {}
                }
            }
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&(20 + body.len() as u16).to_be_bytes());
            header.extend_from_slice(&[0, 7]);
            header.extend_from_slice(&fragment.to_be_bytes());
            header.extend_from_slice(&[64, protocol, 0, 0]);
            header.extend_from_slice(&GUEST.octets());
            header.extend_from_slice(&to.octets());
            let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&[0x52, 0x55, 10, 0, 2, 2][..], &MAC, &[8, 0], &header, &body].concat()
        },
    );
    prop_oneof![1 => raw, 1 => arp, 6 => ip]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_a_guest_sends_is_survived(frames in proptest::collection::vec(frame(), 1..100)) {
        // Off the network: destinations are made up.
        let (end, nat) = Namespace::new().run(|| cable(SocketType::SEQPACKET));
        for frame in &frames {
            rustix::net::send(&end, frame, SendFlags::empty()).unwrap();
            // The answers are taken, as a guest would.
            while rustix::net::recv(end.as_fd(), &mut [0_u8; 2048][..], RecvFlags::DONTWAIT).is_ok() {}
        }
        rustix::net::send(&end, &arp_request(), SendFlags::empty()).unwrap();
        await_arp(&end);
        drop(nat);
    }
}
