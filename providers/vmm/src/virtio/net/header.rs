//! The header before each frame (`struct virtio_net_hdr_v1`, virtio 1.2, section 5.1.6).

use virtio_bindings::virtio_net::VIRTIO_NET_HDR_F_DATA_VALID;

/// Its length, bytes.
pub(super) const LENGTH: usize = 12;

/// Where it says over how many chains a frame is spread.
pub(super) const BUFFERS: usize = 10;

/// The largest frame with its header: the largest IP packet, an Ethernet header and a VLAN tag.
pub(super) const LARGEST: usize = LENGTH + 65_535 + 18;

/// The largest frame with its header that carries no more than `mtu` bytes of IP.
pub(super) fn largest(mtu: u16) -> usize {
    LENGTH + usize::from(mtu) + 18
}

/// The header of a whole frame whose checksums need no look.
pub(super) fn whole(valid: bool) -> [u8; LENGTH] {
    let mut header = [0; LENGTH];
    if valid {
        header[0] = VIRTIO_NET_HDR_F_DATA_VALID as u8;
    }
    header[BUFFERS] = 1;
    header
}
