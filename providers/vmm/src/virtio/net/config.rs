//! What the device offers, and its configuration space (virtio 1.2, sections 5.1.3 and 5.1.4).

use virtio_bindings::virtio_net as net;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::{WireKind, header};

/// Always offered.
const COMMON: [u32; 6] = [
    net::VIRTIO_NET_F_MAC,
    net::VIRTIO_NET_F_MTU,
    net::VIRTIO_NET_F_STATUS,
    net::VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_RING_F_INDIRECT_DESC,
];

/// Offered where the kernel at the other end understands the header before each frame.
const OFFLOADS: [u32; 8] = [
    net::VIRTIO_NET_F_CSUM,
    net::VIRTIO_NET_F_GUEST_CSUM,
    net::VIRTIO_NET_F_HOST_TSO4,
    net::VIRTIO_NET_F_HOST_TSO6,
    net::VIRTIO_NET_F_HOST_ECN,
    net::VIRTIO_NET_F_GUEST_TSO4,
    net::VIRTIO_NET_F_GUEST_TSO6,
    net::VIRTIO_NET_F_GUEST_ECN,
];

/// The features of a device with this wire.
pub(super) fn features(wire: WireKind) -> u64 {
    let bits = |bits: &[u32]| bits.iter().fold(0, |all, bit| all | 1 << bit);
    match wire {
        WireKind::Tap => bits(&COMMON) | bits(&OFFLOADS),
        // What comes over a socket has its checksum, or none that could be wrong: it never left this host.
        WireKind::Frames => bits(&COMMON) | 1 << net::VIRTIO_NET_F_GUEST_CSUM,
    }
}

/// The largest frame with its header that may come in where these features are agreed on: what TCP sends may come in
/// larger pieces than the MTU.
pub(super) fn largest(features: u64, mtu: u16) -> usize {
    let large = 1 << net::VIRTIO_NET_F_GUEST_TSO4 | 1 << net::VIRTIO_NET_F_GUEST_TSO6;
    if features & large == 0 { header::largest(mtu) } else { header::LARGEST }
}

/// The configuration space.
pub(super) struct Config([u8; 12]);

impl Config {
    pub(super) fn new(mac: [u8; 6], mtu: u16) -> Self {
        let mut space = [0; 12];
        space[..6].copy_from_slice(&mac);
        space[6..8].copy_from_slice(&(net::VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
        space[8..10].copy_from_slice(&1u16.to_le_bytes());
        space[10..12].copy_from_slice(&mtu.to_le_bytes());
        Self(space)
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        for (place, byte) in data.iter_mut().zip(self.0.get(offset..).unwrap_or_default()) {
            *place = *byte;
        }
    }
}
