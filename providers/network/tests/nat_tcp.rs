//! TCP through the NAT: real kernels on both sides, a tap in between.

mod common;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::world::{WORLD, World};
use posada_provider_api::Protocol;
use posada_provider_api::network::management::GATEWAY;

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A server in the host's namespace that handles each connection in a thread.
fn serve(
    world: &World,
    address: Ipv4Addr,
    handle: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
) -> u16 {
    let listener = world.host.run(move || TcpListener::bind((address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream.unwrap()));
        }
    });
    port
}

fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    io::copy(&mut stream, &mut copy).unwrap();
    copy.shutdown(Shutdown::Write).unwrap();
}

/// Sends all, closes that direction, and reads to the end.
fn exchange(to: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    })
}

#[test]
fn bytes_come_through_both_ways_to_the_world_and_to_the_host() {
    let world = World::new();
    let there = serve(&world, WORLD, echo);
    let here = serve(&world, Ipv4Addr::LOCALHOST, echo);
    world.guest.run(move || {
        let sent = pattern(20_000_000);
        for to in [SocketAddr::from((WORLD, there)), SocketAddr::from((GATEWAY, here))] {
            assert!(exchange(to, &sent) == sent, "{to}");
        }
    });
}

#[test]
fn bytes_come_through_without_a_tap() {
    let world = World::without_tap();
    let there = serve(&world, WORLD, echo);
    world.guest.run(move || {
        let sent = pattern(10_000_000);
        assert!(exchange(SocketAddr::from((WORLD, there)), &sent) == sent);
        let error = TcpStream::connect_timeout(&SocketAddr::from((GATEWAY, 1)), Duration::from_secs(5));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let world = World::new();
    let (go, gone) = mpsc::sync_channel::<()>(0);
    let (result, received) = mpsc::channel();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
    let port = serve(&world, WORLD, move |mut stream| {
        gone.lock().unwrap().recv().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        result.send(all).unwrap();
    });
    let sent = pattern(50_000_000);
    let expected = sent.clone();
    let (stuck, stuck_at) = mpsc::channel();
    let writer = world.guest.start(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        // Until nothing has moved for a while: every buffer on the way is full.
        let mut last = std::time::Instant::now();
        while last.elapsed() < Duration::from_millis(700) {
            match stream.write(&sent[written..]) {
                Ok(count) => {
                    written += count;
                    last = std::time::Instant::now();
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    thread::yield_now();
                }
            }
        }
        stuck.send(written).unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(&sent[written..]).unwrap();
    });
    let written = stuck_at.recv().unwrap();
    assert!(written < 30_000_000, "{written} bytes are kept somewhere");
    go.send(()).unwrap();
    writer.recv().unwrap();
    assert!(received.recv().unwrap() == expected);
}

#[test]
fn a_slow_guest_holds_the_host_back() {
    let world = World::new();
    let sent = pattern(40_000_000);
    let expected = sent.clone();
    let port = serve(&world, WORLD, move |mut stream| stream.write_all(&sent).unwrap());
    world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        // The guest's window closes; probes go on until it opens.
        thread::park_timeout(Duration::from_millis(1500));
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all == expected, "{} of {}", all.len(), expected.len());
    });
}

#[test]
fn the_host_can_close_its_half_first() {
    let world = World::new();
    let (result, received) = mpsc::channel();
    let port = serve(&world, WORLD, move |mut stream| {
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        result.send(all).unwrap();
    });
    world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "hello");
        stream.write_all(&pattern(300_000)).unwrap();
    });
    assert!(received.recv().unwrap() == pattern(300_000));
}

#[test]
fn a_refusal_is_a_refusal_and_what_cannot_be_reached_is_told() {
    let world = World::new();
    let port = world.host.run(|| TcpListener::bind((WORLD, 0)).unwrap().local_addr().unwrap().port());
    world.guest.run(move || {
        for to in [SocketAddr::from((WORLD, port)), SocketAddr::from((GATEWAY, port))] {
            let error = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}");
        }
        // The host has no route there.
        let error = TcpStream::connect_timeout(&"203.0.113.9:80".parse().unwrap(), Duration::from_secs(5));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn resets_pass_both_ways() {
    let world = World::new();
    let (result, received) = mpsc::channel();
    let port = serve(&world, WORLD, move |mut stream| {
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        if first[0] == b'h' {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        } else {
            result.send(stream.read(&mut first).unwrap_err().kind()).unwrap();
        }
    });
    world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        stream.write_all(b"h").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        stream.write_all(b"g").unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(received.recv().unwrap(), io::ErrorKind::ConnectionReset);
}

#[test]
fn two_hundred_connections_at_once() {
    let world = World::new();
    let port = serve(&world, WORLD, echo);
    world.guest.run(move || {
        let mut streams: Vec<_> = (0..200).map(|_| TcpStream::connect((WORLD, port)).unwrap()).collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[n as u8; 10_000]).unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut back = [0; 10_000];
            stream.read_exact(&mut back).unwrap();
            assert!(back == [n as u8; 10_000]);
        }
    });
}

#[tokio::test]
async fn thousands_of_short_connections_leave_nothing() {
    let world = World::new();
    let port = serve(&world, WORLD, |mut stream| {
        let mut asked = [0; 4];
        // The guest's side closes first in every other connection.
        if stream.read_exact(&mut asked).is_ok() {
            stream.write_all(&asked).unwrap();
        }
    });
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    world.guest.run(move || {
        for n in 0..10_000_u32 {
            let mut stream = TcpStream::connect((WORLD, port)).unwrap();
            stream.write_all(&n.to_be_bytes()).unwrap();
            let mut back = [0; 4];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(u32::from_be_bytes(back), n);
            if n % 2 == 0 {
                assert_eq!(stream.read(&mut back).unwrap(), 0);
            }
        }
    });
    // The last closes are under way; they need no more than a round through both kernels.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let left = world.nat.counts().await.unwrap().tcp;
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        if left == 0 && open <= before {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{left} connections and {open} descriptors of {before} are left"
        );
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_bound_refuses_and_recovers() {
    use common::world::MAC;
    use posada_network::nat::{Limits, NatConfig};
    let mut config = NatConfig::new(MAC, "web", "/nonexistent/resolv.conf");
    config.limits = Limits { tcp: 3, ..config.limits };
    let world = World::with(config, true, |tap, _| tap);
    let port = serve(&world, WORLD, echo);
    world.guest.run(move || {
        let connect = || TcpStream::connect((WORLD, port));
        let mut held: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let mut last = held.pop().unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        assert_eq!(last.read(&mut [0]).unwrap(), 0);
        connect().unwrap();
    });
}

#[tokio::test]
async fn the_host_dials_the_guest() {
    let world = World::new();
    let listener = world.guest.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), GATEWAY);
        echo(stream);
    });
    let mut stream = std::os::unix::net::UnixStream::from(world.nat.dial(Protocol::Tcp, port).await.unwrap());
    stream.set_nonblocking(false).unwrap();
    let sent = pattern(3_000_000);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == sent);

    let closed = world.guest.run(|| TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port());
    let error = world.nat.dial(Protocol::Tcp, closed).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_port_leads_through_the_nat() {
    use posada_network::forward::{Dial, Forwards};
    use posada_provider_api::Forward;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let World { host: _host, guest, nat } = World::new();
    let listener = guest.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let datagrams = guest.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    let forward = |guest: u16, protocol| Forward {
        guest,
        host: 0,
        host_ip: Ipv4Addr::LOCALHOST.into(),
        protocol,
        auto_correct: false,
        name: None,
    };
    let wanted = [
        forward(listener.local_addr().unwrap().port(), Protocol::Tcp),
        forward(datagrams.local_addr().unwrap().port(), Protocol::Udp),
    ];
    thread::spawn(move || echo(listener.accept().unwrap().0));
    thread::spawn(move || {
        let (length, from) = datagrams.recv_from(&mut [0; 100]).unwrap();
        datagrams.send_to(&vec![b'!'; length], from).unwrap();
    });
    let forwards = Forwards::bind(&wanted).unwrap();
    let ports: Vec<u16> = forwards.ports().iter().map(|port| port.host).collect();
    let _running = forwards.run(std::sync::Arc::new(nat) as std::sync::Arc<dyn Dial>).unwrap();

    let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sent = pattern(2_000_000);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await.unwrap();
    writing.await.unwrap();
    assert!(back == sent);

    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, ports[1])).await.unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).await.unwrap();
    assert_eq!(&answer[..length], b"!!!!!");
}
