//! TCP segments (RFC 9293, section 3.1): those that come in, taken apart, and those that go out.

use smoltcp::wire::{TcpOption, TcpPacket};

use crate::nat::checksum::Checksum;
use crate::nat::wire::protocol;

use std::net::Ipv4Addr;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Length of a header without options.
pub(super) const HEADER: usize = 20;
/// A header with the options of a SYN: maximum segment size, padding, window scale.
pub(super) const SYN_HEADER: usize = HEADER + 8;

/// `a` is before `b` in sequence space.
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// A segment of the guest.
#[derive(Debug, Clone, Copy)]
pub(in crate::nat) struct Segment<'a> {
    pub(in crate::nat) source: u16,
    pub(in crate::nat) destination: u16,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// The largest payload the guest takes, if it says.
    pub(super) mss: Option<u16>,
    /// By how many bits the guest shifts its windows, if it says.
    pub(super) scale: Option<u8>,
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Takes apart the payload of an IP packet. The checksum is not looked at: the cable is memory.
    pub(in crate::nat) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let packet = TcpPacket::new_checked(bytes).ok()?;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(packet.fin(), FIN)
            | flag(packet.syn(), SYN)
            | flag(packet.rst(), RST)
            | flag(packet.psh(), PSH)
            | flag(packet.ack(), ACK);
        let (mut mss, mut scale) = (None, None);
        if packet.syn() {
            let mut options = packet.options();
            while !options.is_empty() {
                let Ok((rest, option)) = TcpOption::parse(options) else { break };
                match option {
                    TcpOption::EndOfList => break,
                    TcpOption::MaxSegmentSize(value) => mss = Some(value),
                    TcpOption::WindowScale(value) => scale = Some(value),
                    _ => {}
                }
                options = rest;
            }
        }
        let (source, destination) = (packet.src_port(), packet.dst_port());
        Some(Self {
            source,
            destination,
            sequence: packet.seq_number().0 as u32,
            acknowledged: packet.ack_number().0 as u32,
            flags,
            window: packet.window_len(),
            mss,
            scale,
            payload: packet.payload(),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// How much of sequence space it takes.
    pub(super) fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// The reset that answers a segment of a connection that is not there (RFC 9293, section 3.10.7.1).
    pub(super) fn refusal(&self) -> Option<Outgoing> {
        if self.has(RST) {
            return None;
        }
        Some(if self.has(ACK) {
            Outgoing { sequence: self.acknowledged, flags: RST, ..Outgoing::default() }
        } else {
            let acknowledged = self.sequence.wrapping_add(self.length());
            Outgoing { acknowledged, flags: RST | ACK, ..Outgoing::default() }
        })
    }
}

/// What a SYN of ours says about us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) mss: u16,
    pub(super) scale: Option<u8>,
}

/// A segment to the guest; its payload is a range of what is yet to be acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) offer: Option<Offer>,
    /// Where its payload begins in the send buffer, and how long it is, bytes.
    pub(super) offset: usize,
    pub(super) len: usize,
}

impl Outgoing {
    /// The header, with the checksum over it and `payload`. Returns it and its length.
    pub(super) fn header(
        &self,
        source: (Ipv4Addr, u16),
        destination: (Ipv4Addr, u16),
        payload: [&[u8]; 2],
    ) -> ([u8; SYN_HEADER], usize) {
        let mut header = [0; SYN_HEADER];
        let length = if self.offer.is_some() { SYN_HEADER } else { HEADER };
        header[..2].copy_from_slice(&source.1.to_be_bytes());
        header[2..4].copy_from_slice(&destination.1.to_be_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledged.to_be_bytes());
        header[12] = (length as u8 / 4) << 4;
        header[13] = self.flags;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        if let Some(offer) = self.offer {
            let mss = offer.mss.to_be_bytes();
            header[20..24].copy_from_slice(&[2, 4, mss[0], mss[1]]);
            // Three bytes of window scale after one of padding; or four of padding.
            header[24..28].copy_from_slice(&offer.scale.map_or([1; 4], |scale| [1, 3, 3, scale]));
        }
        let total = (length + payload[0].len() + payload[1].len()) as u16;
        let sum = Checksum::pseudo_header(source.0, destination.0, protocol::TCP, total)
            .add(&header[..length])
            .add_both(payload)
            .finish();
        header[16..18].copy_from_slice(&sum);
        (header, length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::IpAddress;

    use super::*;

    const US: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 2, 2), 80);
    const GUEST: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 2, 15), 40_000);

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Segment::parse(&bytes).map(|s| s.refusal());
        }

        #[test]
        fn what_goes_out_reads_back(
            sequence in any::<u32>(), acknowledged in any::<u32>(), window in any::<u16>(),
            flags in (0_u8..32), scale in proptest::option::of(0_u8..15), mss in any::<u16>(),
            payload in proptest::collection::vec(any::<u8>(), 0..80), at in 0..80_usize,
        ) {
            let offer = (flags & SYN != 0).then_some(Offer { mss, scale });
            let segment = Outgoing { sequence, acknowledged, flags, window, offer, ..Outgoing::default() };
            let (first, second) = payload.split_at(at.min(payload.len()));
            let (header, length) = segment.header(US, GUEST, [first, second]);
            let bytes = [&header[..length], first, second].concat();
            let packet = TcpPacket::new_checked(&bytes[..]).unwrap();
            prop_assert!(packet.verify_checksum(&IpAddress::Ipv4(US.0), &IpAddress::Ipv4(GUEST.0)));
            let read = Segment::parse(&bytes).unwrap();
            prop_assert_eq!((read.source, read.destination), (80, 40_000));
            prop_assert_eq!((read.sequence, read.acknowledged, read.flags, read.window), (sequence, acknowledged, flags, window));
            prop_assert_eq!(read.payload, &payload[..]);
            prop_assert_eq!(read.mss.zip(Some(read.scale)), offer.map(|o| (o.mss, o.scale)));
        }
    }
}
