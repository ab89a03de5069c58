//! What a guest begins of its own accord is told, and what answers to us is not.

use std::os::fd::OwnedFd;
use std::time::Duration;

use posada_network::nat::{Nat, NatConfig};
use posada_provider_api::Protocol;
use posada_provider_api::network::management::{GATEWAY, GATEWAY_MAC, GUEST};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

const MAC: [u8; 6] = [0x52, 1, 2, 3, 4, 0];

/// A segment from `from` of the guest to `to` of the gateway.
fn segment(from: u16, to: u16, control: TcpControl, acknowledges: Option<TcpSeqNumber>) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from,
        dst_port: to,
        control,
        seq_number: TcpSeqNumber(7),
        ack_number: acknowledges,
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: GUEST,
        dst_addr: GATEWAY,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(MAC),
        dst_addr: EthernetAddress(GATEWAY_MAC),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + tcp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut packet, &sums);
    let (source, destination) = (IpAddress::Ipv4(GUEST), IpAddress::Ipv4(GATEWAY));
    tcp.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &source, &destination, &sums);
    bytes
}

fn read(guest: &OwnedFd) -> (u16, TcpSeqNumber) {
    let mut buffer = [0; 2048];
    let length = rustix::io::read(guest, &mut buffer).expect("a frame");
    let frame = EthernetFrame::new_checked(&buffer[..length]).expect("Ethernet");
    let packet = Ipv4Packet::new_checked(frame.payload()).expect("IP");
    let tcp = TcpPacket::new_checked(packet.payload()).expect("TCP");
    (tcp.src_port(), tcp.seq_number())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guest_begins_is_heard_and_its_answers_are_not() {
    let (cable, guest) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let nat = Nat::start(cable, NatConfig::new(MAC, "web", "/etc/resolv.conf")).unwrap();
    let mut heard = nat.heard();

    // A dial that the guest refuses is our own doing: would it count, it would be dialled again at once, forever.
    let refusing = tokio::task::spawn_blocking(move || {
        let (port, initial) = read(&guest);
        let refusal = segment(22, port, TcpControl::Rst, Some(initial + 1));
        rustix::io::write(&guest, &refusal).unwrap();
        guest
    });
    let refused = nat.dial(Protocol::Tcp, 22).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let guest = refusing.await.unwrap();
    assert!(!heard.has_changed().unwrap());

    rustix::io::write(&guest, &segment(5000, 9, TcpControl::Syn, None)).unwrap();
    tokio::time::timeout(Duration::from_secs(10), heard.changed()).await.expect("heard").unwrap();

    drop(nat);
    assert!(heard.changed().await.is_err(), "it ends with the NAT");
}
