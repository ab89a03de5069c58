//! Private networks: machines in network namespaces of their own, joined over taps.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::world::Namespace;
use posada_network::link::{self, Interface};
use posada_network::private::{MTU, Private};
use posada_network::{packet, tap};
use posada_provider_api::{MachineId, MachineName};

struct Machine {
    inside: Namespace,
    id: MachineId,
    place: Option<Private>,
}

const PREFIX: u8 = 24;

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 56, n)
}

fn machine(dir: &Path, n: u8, make: fn(&str, [u8; 6]) -> OwnedFd) -> Machine {
    // The longest name there is: a socket's address would be too short for it.
    let name = format!("{}{n}", "m".repeat(62));
    let id = MachineId::from_parts(&MachineName::new(name).unwrap(), n.into());
    let inside = Namespace::new();
    let mac = id.mac(1);
    let end = inside.run(move || {
        let end = make("eth1", mac);
        let address = Some((address(n), PREFIX));
        link::configure(&Interface { name: "eth1", mac: Some(mac), mtu: Some(MTU), address, gateway: None })
            .unwrap();
        end
    });
    let place = Some(Private::join(dir, &id, end).unwrap());
    Machine { inside, id, place }
}

fn over_tap(name: &str, mac: [u8; 6]) -> OwnedFd {
    tap::create(name, mac).expect("make a tap: needs /dev/net/tun")
}

fn without_tap(name: &str, mac: [u8; 6]) -> OwnedFd {
    packet::create(name, mac).unwrap()
}

impl Machine {
    fn serve(&self) {
        let listener = self.inside.run(|| TcpListener::bind("0.0.0.0:7").unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&(all.len() as u64).to_be_bytes()).unwrap();
            }
        });
    }

    /// Sends `length` bytes to machine `n` and returns how many it says it got.
    fn send(&self, n: u8, length: usize) -> u64 {
        self.inside.run(move || {
            let mut stream =
                TcpStream::connect_timeout(&(address(n), 7).into(), Duration::from_secs(10)).unwrap();
            stream.write_all(&vec![9; length]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut count = [0; 8];
            stream.read_exact(&mut count).unwrap();
            u64::from_be_bytes(count)
        })
    }
}

#[test]
fn machines_reach_each_other_and_only_their_own_network() {
    let dir = tempfile::tempdir().unwrap();
    let net = dir.path().join("back");
    let machines: Vec<_> = (1..=4).map(|n| machine(&net, n, over_tap)).collect();
    machines.iter().for_each(Machine::serve);
    for from in &machines {
        for to in 1..=4 {
            assert_eq!(from.send(to, 200_000), 200_000);
        }
    }
    let other = machine(&dir.path().join("front"), 9, over_tap);
    other.inside.run(|| {
        let to = (address(1), 7).into();
        TcpStream::connect_timeout(&to, Duration::from_millis(300)).expect_err("another network");
    });
}

#[test]
fn bulk_and_large_datagrams_pass_between_a_tap_and_a_packet_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (machine(dir.path(), 1, over_tap), machine(dir.path(), 2, without_tap));
    one.serve();
    two.serve();
    assert_eq!(one.send(2, 20_000_000), 20_000_000);
    assert_eq!(two.send(1, 20_000_000), 20_000_000);
    let receiver = one.inside.run(|| UdpSocket::bind("0.0.0.0:9").unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    two.inside.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&vec![3; 60_000], (address(1), 9)).unwrap();
    });
    assert_eq!(receiver.recv(&mut vec![0; 70_000]).unwrap(), 60_000);
}

#[test]
fn who_leaves_or_dies_is_forgotten_and_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, mut two) = (machine(dir.path(), 1, over_tap), machine(dir.path(), 2, over_tap));
    one.serve();
    assert_eq!(two.send(1, 10), 10);
    let socket = dir.path().join(two.id.as_str());
    assert!(fs_err::metadata(&socket).unwrap().file_type().is_socket());
    drop(two.place.take());
    assert!(!socket.exists());

    // What a killed supervisor leaves: a socket that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("left")).unwrap());
    fs_err::rename(dir.path().join("left"), &socket).unwrap();
    let three = machine(dir.path(), 3, over_tap);
    assert!(!socket.exists(), "who joins clears it away");
    assert_eq!(three.send(1, 10), 10);
    drop(two);
    let back = machine(dir.path(), 2, over_tap);
    assert_eq!(back.send(1, 10), 10);
}
