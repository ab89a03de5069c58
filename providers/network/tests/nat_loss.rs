//! TCP through the NAT over a cable that loses frames.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use common::world::{MAC, WORLD, World};
use posada_network::nat::NatConfig;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Carries frames between `tap` and the returned end, and loses every `nth` of those that carry much.
fn lossy(tap: OwnedFd, nth: u32) -> OwnedFd {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    thread::spawn(move || {
        let mut frame = vec![0; 70_000];
        let mut seen = 0_u32;
        loop {
            let mut fds = [PollFd::new(&tap, PollFlags::IN), PollFd::new(&ours, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            let ready = [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()];
            for (is_ready, from, to) in
                [(ready[0], tap.as_fd(), ours.as_fd()), (ready[1], ours.as_fd(), tap.as_fd())]
            {
                if !is_ready {
                    continue;
                }
                match rustix::io::read(from, &mut frame[..]) {
                    Ok(0) | Err(rustix::io::Errno::BADFD) => return,
                    Ok(length) => {
                        seen = seen.wrapping_add(1);
                        // Spread by a multiplicative hash, not in step with anything.
                        if seen.wrapping_mul(2_654_435_761) >> 16 >= 65_536 / nth {
                            let _ = rustix::io::write(to, &frame[..length]);
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => {}
                    Err(_) => return,
                }
            }
        }
    });
    theirs
}

#[test]
fn every_byte_arrives_although_frames_are_lost() {
    for mtu in [1500, 65_520] {
        let mut config = NatConfig::new(MAC, "web", "/nonexistent/resolv.conf");
        config.mtu = mtu;
        let world = World::with(config, true, |tap, _| lossy(tap, 60));
        let listener = world.host.run(|| TcpListener::bind((WORLD, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut copy = stream.try_clone().unwrap();
                io::copy(&mut stream, &mut copy).unwrap();
                copy.shutdown(Shutdown::Write).unwrap();
            }
        });
        let size = if mtu == 1500 { 400_000 } else { 4_000_000_u32 };
        world.guest.run(move || {
            for round in 0..3 {
                let sent: Vec<u8> =
                    (0..size).map(|n| (n.wrapping_mul(2_654_435_761 + round) >> 24) as u8).collect();
                let mut stream = TcpStream::connect((WORLD, port)).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let received = thread::scope(|scope| {
                    scope.spawn(|| {
                        writer.write_all(&sent).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).unwrap();
                    received
                });
                assert!(received == sent, "{} of {} bytes over {mtu}", received.len(), sent.len());
            }
        });
    }
}
