//! The frames we send. What the guest sends is taken apart by smoltcp's checked views.

use std::net::Ipv4Addr;

use posada_provider_api::network::management::GATEWAY_MAC;

use super::checksum::Checksum;
use crate::cable::ETHERNET;

/// Length of an IPv4 header without options.
pub(super) const IPV4: usize = 20;
/// Length of a UDP header.
pub(super) const UDP: usize = 8;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TIME_TO_LIVE: u8 = 64;

/// Protocol numbers of IPv4.
pub(super) mod protocol {
    pub(in crate::nat) const ICMP: u8 = 1;
    pub(in crate::nat) const TCP: u8 = 6;
    pub(in crate::nat) const UDP: u8 = 17;
}

/// An Ethernet header from the gateway to `guest`, carrying IPv4.
pub(super) fn ethernet(guest: [u8; 6]) -> [u8; ETHERNET] {
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&guest);
    header[6..12].copy_from_slice(&GATEWAY_MAC);
    header[12..].copy_from_slice(&ETHERTYPE_IPV4);
    header
}

/// Where in its datagram a packet stands (RFC 791, section 3.1).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fragment {
    /// Names the datagram.
    pub(super) id: u16,
    /// Offset of the payload, bytes; a multiple of eight.
    pub(super) offset: u16,
    /// Whether others follow.
    pub(super) more: bool,
}

/// An IPv4 header (RFC 791) for `payload` bytes.
pub(super) fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: u16,
    fragment: Fragment,
) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(payload + IPV4 as u16).to_be_bytes());
    header[4..6].copy_from_slice(&fragment.id.to_be_bytes());
    let place = (fragment.offset / 8) | if fragment.more { 0x2000 } else { 0 };
    header[6..8].copy_from_slice(&place.to_be_bytes());
    header[8] = TIME_TO_LIVE;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = Checksum::default().add(&header).finish();
    header[10..12].copy_from_slice(&checksum);
    header
}

/// A UDP datagram (RFC 768): header and payload. `None` where the payload is too long for one.
pub(super) fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + UDP).ok().filter(|&l| usize::from(l) <= 0xffff - IPV4)?;
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend_from_slice(&source.1.to_be_bytes());
    datagram.extend_from_slice(&destination.1.to_be_bytes());
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let sum = Checksum::pseudo_header(source.0, destination.0, protocol::UDP, length).add(&datagram).finish();
    // Zero would say that there is none.
    datagram[6..8].copy_from_slice(&if sum == [0, 0] { [0xff, 0xff] } else { sum });
    Some(datagram)
}

/// An ICMP message (RFC 792) with its checksum filled in. `message` starts with type and code.
pub(super) fn icmp(mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let sum = Checksum::default().add(&message).finish();
    message[2..4].copy_from_slice(&sum);
    message
}
