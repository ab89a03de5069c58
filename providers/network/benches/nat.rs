//! How fast the NAT is, over a real tap between two network namespaces (needs root, or `unshare -Ur`):
//! `cargo bench -p posada-network --bench nat`.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it has measured")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use common::world::{MAC, WORLD, World};
use posada_network::nat::NatConfig;
use posada_provider_api::network::management::MTU;

const BULK: usize = 2_000_000_000;

fn main() {
    for mtu in [1500, 9000, MTU] {
        let up = upload(mtu);
        let down = download(mtu);
        println!("mtu {mtu:5}: guest to host {up:6.2} Gbit/s, host to guest {down:6.2} Gbit/s");
    }
    // More to one destination would measure the kernel's search for a free port among those in TIME-WAIT.
    let (rate, latency) = short_connections(5_000);
    println!("short connections: {rate:.0} a second, {:.0} µs each", latency.as_secs_f64() * 1e6);
    println!("TCP round trip: {:.1} µs", round_trips(50_000).as_secs_f64() * 1e6);
    println!("UDP round trip: {:.1} µs", datagrams(50_000).as_secs_f64() * 1e6);
}

fn world(mtu: u16) -> World {
    let mut config = NatConfig::new(MAC, "bench", "/nonexistent/resolv.conf");
    config.mtu = mtu;
    World::with(config, true, |tap, _| tap)
}

fn gigabits(bytes: usize, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64() / 1e9
}

fn volume(mtu: u16) -> usize {
    if mtu < 5000 { BULK / 8 } else { BULK }
}

fn upload(mtu: u16) -> f64 {
    let world = world(mtu);
    let listener = world.host.run(|| TcpListener::bind((WORLD, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    let start = Instant::now();
    world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        let block = vec![7; 1 << 20];
        for _ in 0..volume(mtu) >> 20 {
            stream.write_all(&block).unwrap();
        }
    });
    gigabits(server.join().unwrap(), start.elapsed())
}

fn download(mtu: u16) -> f64 {
    let world = world(mtu);
    let listener = world.host.run(|| TcpListener::bind((WORLD, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let block = vec![7; 1 << 20];
        for _ in 0..volume(mtu) >> 20 {
            stream.write_all(&block).unwrap();
        }
    });
    let start = Instant::now();
    let total = world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    gigabits(total, start.elapsed())
}

fn echo_server(world: &World) -> u16 {
    let listener = world.host.run(|| TcpListener::bind((WORLD, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..count]).unwrap();
            }
        }
    });
    port
}

fn short_connections(count: u32) -> (f64, Duration) {
    let world = world(MTU);
    let port = echo_server(&world);
    let took = world.guest.run(move || {
        let start = Instant::now();
        for _ in 0..count {
            let mut stream = TcpStream::connect((WORLD, port)).unwrap();
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
        }
        start.elapsed()
    });
    (f64::from(count) / took.as_secs_f64(), took / count)
}

fn round_trips(count: u32) -> Duration {
    let world = world(MTU);
    let port = echo_server(&world);
    world.guest.run(move || {
        let mut stream = TcpStream::connect((WORLD, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let start = Instant::now();
        for _ in 0..count {
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
        }
        start.elapsed() / count
    })
}

fn datagrams(count: u32) -> Duration {
    let world = world(MTU);
    let server = world.host.run(|| UdpSocket::bind((WORLD, 0)).unwrap());
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    world.guest.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((WORLD, port)).unwrap();
        let start = Instant::now();
        for _ in 0..count {
            socket.send(b"ping").unwrap();
            socket.recv(&mut [0; 64]).unwrap();
        }
        start.elapsed() / count
    })
}
