//! Forwarded ports on this host's loopback, with servers of the tests' own behind them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use posada_network::forward::{Dial, ForwardError, Forwards, Reason, Running};
use posada_provider_api::{Fault, Forward, Protocol, ProviderError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A machine whose ports are those of 127.0.0.2.
#[derive(Default)]
struct Machine {
    udp_dials: AtomicUsize,
}

const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[async_trait]
impl Dial for Machine {
    async fn tcp(&self, port: u16) -> io::Result<OwnedFd> {
        Ok(TcpStream::connect((INSIDE, port)).await?.into_std()?.into())
    }

    async fn udp(&self, port: u16) -> io::Result<OwnedFd> {
        self.udp_dials.fetch_add(1, Ordering::Relaxed);
        let socket = UdpSocket::bind((INSIDE, 0)).await?;
        socket.connect((INSIDE, port)).await?;
        Ok(socket.into_std()?.into())
    }
}

fn forward(protocol: Protocol, guest: u16, host: u16) -> Forward {
    Forward { guest, host, host_ip: Ipv4Addr::LOCALHOST.into(), protocol, auto_correct: false, name: None }
}

fn serve(forward: Forward) -> (SocketAddr, Running, Arc<Machine>) {
    let forwards = Forwards::bind(&[forward]).unwrap();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), forwards.ports()[0].host);
    let machine = Arc::new(Machine::default());
    (address, forwards.run(Arc::clone(&machine) as Arc<dyn Dial>).unwrap(), machine)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((INSIDE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn carries_tcp_both_ways_and_half_closes() {
    let (listener, port) = listen().await;
    let (address, _running, _) = serve(forward(Protocol::Tcp, port, 0));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        asked.reverse();
        stream.write_all(&asked).await.unwrap();
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    let asked: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&asked).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answered = Vec::new();
    client.read_to_end(&mut answered).await.unwrap();
    answered.reverse();
    assert!(answered == asked, "{} of {} bytes came back", answered.len(), asked.len());
    server.await.unwrap();
}

#[tokio::test]
async fn a_refusal_inside_is_a_reset_outside() {
    let (listener, port) = listen().await;
    drop(listener);
    let (address, _running, _) = serve(forward(Protocol::Tcp, port, 0));
    let mut client = TcpStream::connect(address).await.unwrap();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_inside_is_a_reset_outside() {
    let (listener, port) = listen().await;
    let (address, _running, _) = serve(forward(Protocol::Tcp, port, 0));
    let mut client = TcpStream::connect(address).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn two_hundred_connections_at_once() {
    let (listener, port) = listen().await;
    let (address, _running, _) = serve(forward(Protocol::Tcp, port, 0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            });
        }
    });
    let mut clients = Vec::new();
    for n in 0..200_u32 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&n.to_be_bytes()).await.unwrap();
        clients.push(client);
    }
    for (n, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.read_u32().await.unwrap(), n as u32);
    }
}

#[tokio::test]
async fn dropping_the_guard_closes_ports_and_connections() {
    let (listener, port) = listen().await;
    let (address, running, _) = serve(forward(Protocol::Tcp, port, 0));
    let mut client = TcpStream::connect(address).await.unwrap();
    let (_inside, _) = listener.accept().await.unwrap();
    drop(running);
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)), "the connection ends");
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn udp_answers_find_their_client() {
    let inside = UdpSocket::bind((INSIDE, 0)).await.unwrap();
    let port = inside.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        loop {
            let (length, from) = inside.recv_from(&mut buffer).await.unwrap();
            inside.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let (address, _running, machine) = serve(forward(Protocol::Udp, port, 0));
    let clients =
        [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    for round in 0..3_u8 {
        for (n, client) in clients.iter().enumerate() {
            // The largest datagram that UDP carries, an empty one, and a small one.
            let datagram = vec![n as u8; [65_507, 0, 40][usize::from(round)]];
            client.send_to(&datagram, address).await.unwrap();
            let mut answer = vec![0; 65_536];
            let (length, from) = client.recv_from(&mut answer).await.unwrap();
            assert_eq!(from, address);
            assert!(answer[..length] == datagram);
        }
    }
    assert_eq!(machine.udp_dials.load(Ordering::Relaxed), 2, "one association a client");
}

fn failures(result: Result<Forwards, ForwardError>) -> ForwardError {
    result.expect_err("a port that cannot be had")
}

#[test]
fn every_collision_is_told_with_its_holder() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (taken_tcp, taken_udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    let error = failures(Forwards::bind(&[
        forward(Protocol::Tcp, 80, taken_tcp.port()),
        forward(Protocol::Tcp, 81, 0),
        forward(Protocol::Udp, 53, taken_udp.port()),
    ]));
    assert_eq!(error.0.len(), 2);
    let text = error.to_string();
    let pid = format!("(pid {})", std::process::id());
    assert!(text.starts_with(&format!("port {taken_tcp}/tcp is taken by ")), "{text}");
    assert!(text.contains(&format!("; port {taken_udp}/udp is taken by ")), "{text}");
    assert_eq!(text.matches(&pid).count(), 2, "{text}");

    let one = failures(Forwards::bind(&[forward(Protocol::Tcp, 80, taken_tcp.port())]));
    assert!(matches!(
        ProviderError::from(one),
        ProviderError::PortTaken { address, protocol: Protocol::Tcp, holder } if address == taken_tcp && holder.contains(&pid)
    ));
}

#[test]
fn nothing_stays_bound_when_one_port_cannot_be_had() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = Forwards::bind(&[forward(Protocol::Tcp, 80, 0)]).unwrap().ports()[0].host;
    failures(Forwards::bind(&[
        forward(Protocol::Tcp, 80, free),
        forward(Protocol::Tcp, 81, taken.local_addr().unwrap().port()),
    ]));
    Forwards::bind(&[forward(Protocol::Tcp, 80, free)]).expect("free again");
}

#[test]
fn the_same_port_twice_is_told_as_such() {
    let free = Forwards::bind(&[forward(Protocol::Tcp, 80, 0)]).unwrap().ports()[0].host;
    let any = Forward { host_ip: Ipv4Addr::UNSPECIFIED.into(), ..forward(Protocol::Tcp, 81, free) };
    let error = failures(Forwards::bind(&[forward(Protocol::Tcp, 80, free), any]));
    assert!(matches!(error.0[0].reason, Reason::AskedTwice), "{error}");
}

#[test]
fn a_corrected_port_is_near_and_never_steals_an_asked_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let corrected = Forward { auto_correct: true, ..forward(Protocol::Tcp, 80, port) };
    // The next one up is asked for by a forward that comes later; where some other process has it, so be it.
    let next = forward(Protocol::Tcp, 81, port.checked_add(1).unwrap());
    let Ok(forwards) = Forwards::bind(&[corrected, next.clone()]) else {
        failures(Forwards::bind(&[next]));
        return;
    };
    let ports = forwards.ports();
    assert_eq!(ports[1].host, port + 1);
    assert!((port + 2..=port.saturating_add(50)).contains(&ports[0].host), "{} for {port}", ports[0].host);
    assert_eq!(ports[0].asked.host, port);
}

#[test]
fn an_address_of_another_host_is_told() {
    let elsewhere = Forward { host_ip: IpAddr::from([192, 0, 2, 7]), ..forward(Protocol::Tcp, 80, 0) };
    let error = failures(Forwards::bind(&[elsewhere]));
    assert!(error.to_string().ends_with("192.0.2.7 is not an address of this host"), "{error}");
}

#[test]
fn a_privileged_port_names_the_way_out() {
    let error = std::thread::spawn(|| {
        // Capabilities belong to a thread: this one is now as an ordinary user is.
        caps::clear(None, caps::CapSet::Effective).unwrap();
        failures(Forwards::bind(&[forward(Protocol::Tcp, 80, 81)]))
    })
    .join()
    .unwrap();
    assert_eq!(error.to_string(), "port 127.0.0.1:81/tcp is reserved for root");
    assert!(error.hint().unwrap().contains("net.ipv4.ip_unprivileged_port_start=81"));
}
