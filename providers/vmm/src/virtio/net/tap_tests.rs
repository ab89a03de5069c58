//! Frames through the device to a tap of the kernel, in a network namespace of the test's own: headers and offloads
//! are what the kernel says they are. They need root, and are passed over without.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use virtio_bindings::virtio_net as bits;

use super::*;
use crate::virtio::testing::Guest;

const RX: usize = RECEIVE as usize;
const TX: usize = TRANSMIT as usize;
const HEADER: usize = header::LENGTH;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;

/// `struct ifreq` as far as it is used here: a name, and 24 bytes whose sense the request decides.
#[repr(C)]
struct Request {
    name: [u8; 16],
    rest: [u8; 24],
}

fn request(name: &str, rest: &[u8]) -> Request {
    let mut request = Request { name: [0; 16], rest: [0; 24] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    request.rest[..rest.len()].copy_from_slice(rest);
    request
}

fn ioctl(fd: &impl AsRawFd, number: libc::Ioctl, request: &mut Request) {
    // SAFETY: the request is as large as `struct ifreq`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw mut *request) };
    assert_eq!(result, 0, "{number:#x}: {}", std::io::Error::last_os_error());
}

fn address(last: u8) -> [u8; 8] {
    let [low, high] = (libc::AF_INET as u16).to_ne_bytes();
    [low, high, 0, 0, 10, 9, 8, last]
}

/// Moves the calling thread into a network of its own, with a tap whose host side is 10.9.8.1; 10.9.8.2 is known to be
/// at the guest's address.
fn tap() -> OwnedFd {
    // SAFETY: only this thread's network changes.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
    let tap: OwnedFd = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map(|file| file.into_parts().0.into())
        .unwrap();
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    ioctl(&tap, TUNSETIFF, &mut request("t0", &flags.to_ne_bytes()));
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    ioctl(&socket, libc::SIOCSIFADDR, &mut request("t0", &address(1)));
    ioctl(
        &socket,
        libc::SIOCSIFNETMASK,
        &mut request("t0", &{
            let mut mask = address(0);
            mask[4..].copy_from_slice(&[255, 255, 255, 0]);
            mask
        }),
    );
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request("t0", &(libc::IFF_UP as u16).to_ne_bytes()));
    // `struct arpreq`: two addresses of 16 bytes, flags, a mask, and the interface.
    let mut neighbour = [0_u8; 68];
    neighbour[..8].copy_from_slice(&address(2));
    neighbour[16..18].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
    neighbour[18..24].copy_from_slice(&MAC);
    neighbour[32..36].copy_from_slice(&(libc::ATF_PERM | libc::ATF_COM).to_ne_bytes());
    neighbour[52..54].copy_from_slice(b"t0");
    // SAFETY: it is as large as `struct arpreq`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSARP, neighbour.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    tap
}

/// Runs `test` on a thread of its own, as root.
fn as_root(test: fn(OwnedFd)) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::thread::spawn(move || test(tap())).join().unwrap();
}

struct Set {
    _net: Net,
    guest: Guest,
    /// The hardware address of the host's side.
    host: [u8; 6],
}

fn set(tap: OwnedFd, features: u64) -> Set {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut asked = request("t0", &[]);
    ioctl(&socket, libc::SIOCGIFHWADDR, &mut asked);
    let host = asked.rest[2..8].try_into().unwrap();
    let mut net = Net::new(Wire::tap(tap).unwrap(), MAC, 1500);
    let (mut guest, activation) = Guest::new(&[QUEUE, QUEUE], features);
    net.activate(activation).unwrap();
    for at in 0..u64::from(QUEUE) {
        guest.queues[RX].add(&[(0x10_0000 + at * 0x1000, 0x1000, true)]);
    }
    guest.queues[RX].kick();
    Set { _net: net, guest, host }
}

impl Set {
    /// The next frame that is IPv4 with this protocol: its header, and its packet.
    fn hear(&mut self, protocol: u8) -> (Vec<u8>, Vec<u8>) {
        loop {
            let mut frame = Vec::new();
            loop {
                let (head, length) = self.guest.wait_used(RX);
                frame.extend(self.guest.read(0x10_0000 + u64::from(head) * 0x1000, length as usize));
                self.guest.queues[RX].add(&[(0x10_0000 + u64::from(head) * 0x1000, 0x1000, true)]);
                if frame.len().div_ceil(0x1000) >= usize::from(frame[header::BUFFERS]) {
                    break;
                }
            }
            self.guest.queues[RX].kick();
            let packet = frame.split_off(HEADER + 14);
            if frame[HEADER + 12..] == [8, 0] && packet[9] == protocol {
                frame.truncate(HEADER);
                return (frame, packet);
            }
        }
    }

    /// Sends an IPv4 packet to the host with `body` behind the IP header, and `header` before the frame.
    fn say(&mut self, header: [u8; HEADER], protocol: u8, body: &[u8]) {
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 9, 8, 2, 10, 9, 8, 1];
        ip[2..4].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
        let sum = sum(&ip, 0);
        ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        let frame = [&header[..], &self.host, &MAC, &[8, 0], &ip, body].concat();
        self.guest.write(0x80_0000, &frame);
        self.guest.queues[TX].add(&[(0x80_0000, frame.len() as u32, false)]);
        self.guest.queues[TX].kick();
        self.guest.wait_used(TX);
    }
}

/// The Internet's sum (RFC 1071), going on from `start`.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum = words.fold(start, |all, word| all + word);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over what TCP and UDP count of the IP header.
fn pseudo(from: u8, to: u8, protocol: u8, length: usize) -> u16 {
    sum(&[10, 9, 8, from, 10, 9, 8, to, 0, protocol], length as u32)
}

fn features(more: &[u32]) -> u64 {
    more.iter().fold(1 << bits::VIRTIO_NET_F_MRG_RXBUF, |all, bit| all | 1 << bit)
}

#[test]
fn datagrams_go_both_ways() {
    as_root(|tap| {
        let socket = UdpSocket::bind("10.9.8.1:7000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut set = set(tap, features(&[]));
        socket.send_to(b"to the guest", "10.9.8.2:53").unwrap();
        let (header, packet) = set.hear(17);
        assert_eq!((header[0], header[header::BUFFERS]), (0, 1), "no offload was agreed on");
        assert_eq!(packet[28..], *b"to the guest");
        assert_eq!(sum(&packet[20..], pseudo(1, 2, 17, 20).into()), 0xffff, "the checksum is whole");
        let body = [&[0, 53, 0x1b, 0x58, 0, 19, 0, 0][..], b"to the host"].concat();
        set.say([0; HEADER], 17, &body);
        let mut got = [0; 64];
        let (length, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((&got[..length], from.to_string().as_str()), (&b"to the host"[..], "10.9.8.2:53"));
    });
}

#[test]
fn checksums_are_left_to_the_other_end_where_that_is_agreed_on() {
    as_root(|tap| {
        let socket = UdpSocket::bind("10.9.8.1:7000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut set = set(tap, features(&[bits::VIRTIO_NET_F_CSUM, bits::VIRTIO_NET_F_GUEST_CSUM]));
        socket.send_to(b"to the guest", "10.9.8.2:53").unwrap();
        let (header, packet) = set.hear(17);
        assert_eq!(header[0], bits::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8);
        assert_eq!((header[6], header[8]), (34, 6), "where the sum starts, and where it goes");
        assert_eq!(packet[26..28], pseudo(1, 2, 17, 20).to_be_bytes());
        // The kernel completes it for whoever looks; here the host's own stack, which believes it.
        let mut body =
            [&[0, 53, 0x1b, 0x58, 0, 19][..], &pseudo(2, 1, 17, 19).to_be_bytes(), b"to the host"].concat();
        let mut header = [0; HEADER];
        header[0] = bits::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
        (header[6], header[8]) = (34, 6);
        set.say(header, 17, &body);
        let mut got = [0; 64];
        assert_eq!(socket.recv_from(&mut got).unwrap().0, 11);
        // Without the flag the same datagram has a wrong sum, and is dropped.
        set.say([0; HEADER], 17, &body);
        body[8] = b'T';
        set.say(header, 17, &body);
        assert_eq!(socket.recv_from(&mut got).unwrap().0, 11);
        assert_eq!(&got[..11], b"To the host");
    });
}

#[test]
fn tcp_comes_in_large_pieces_where_that_is_agreed_on() {
    as_root(|tap| {
        let offloads = [bits::VIRTIO_NET_F_GUEST_CSUM, bits::VIRTIO_NET_F_GUEST_TSO4];
        let mut set = set(tap, features(&offloads));
        let listener = TcpListener::bind("10.9.8.1:80").unwrap();
        // The guest's side of a handshake, by hand: ports 9000 to 80, a large window.
        let segment = |sequence: u32, acknowledged: u32, flags: u8, options: &[u8]| {
            let mut raw =
                [&[0x23, 0x28, 0, 80][..], &sequence.to_be_bytes(), &acknowledged.to_be_bytes()].concat();
            raw.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            raw.extend(options);
            let whole = !sum(&raw, pseudo(2, 1, 6, raw.len()).into());
            raw[16..18].copy_from_slice(&whole.to_be_bytes());
            raw
        };
        // Maximum segment size 1460, window scale 7.
        set.say([0; HEADER], 6, &segment(100, 0, 0x02, &[2, 4, 5, 0xb4, 1, 3, 3, 7]));
        let (_, answer) = set.hear(6);
        let theirs = u32::from_be_bytes(answer[24..28].try_into().unwrap()) + 1;
        set.say([0; HEADER], 6, &segment(101, theirs, 0x10, &[]));
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let sent = stream.write(&[0x5a; 100_000]).unwrap();
        let mut got = 0;
        let mut largest = 0;
        while got < sent {
            let (header, packet) = set.hear(6);
            let data = &packet[20 + usize::from(packet[32] >> 4) * 4..];
            let sequence = u32::from_be_bytes(packet[24..28].try_into().unwrap());
            // What comes again as it was acknowledged late does not count.
            if sequence != theirs + got as u32 {
                continue;
            }
            assert!(data.iter().all(|byte| *byte == 0x5a));
            if data.len() > 1460 {
                assert_eq!(header[1], bits::VIRTIO_NET_HDR_GSO_TCPV4 as u8);
                assert_eq!(u16::from_le_bytes([header[4], header[5]]), 1460);
            }
            largest = largest.max(data.len());
            got += data.len();
            set.say([0; HEADER], 6, &segment(101, theirs + got as u32, 0x10, &[]));
        }
        assert!(largest > 4096, "the largest piece had {largest} bytes");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut body = segment(101, theirs + got as u32, 0x18, &[]);
        body.extend(b"guest");
        body[16..18].fill(0);
        let whole = !sum(&body, pseudo(2, 1, 6, body.len()).into());
        body[16..18].copy_from_slice(&whole.to_be_bytes());
        set.say([0; HEADER], 6, &body);
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"guest");
    });
}
