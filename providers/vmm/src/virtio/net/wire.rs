//! What an interface is plugged into.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use virtio_bindings::virtio_net as net;

use super::header;

/// ioctl of a tap: which headers it may put before frames (linux/if_tun.h).
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0_u32 as libc::Ioctl;
/// ioctl of a tap: the header's length.
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8_u32 as libc::Ioctl;
/// Frames may come without checksum.
const TUN_F_CSUM: libc::c_uint = 0x01;
/// TCP segments over IPv4 may come in large pieces.
const TUN_F_TSO4: libc::c_uint = 0x02;
/// The same over IPv6.
const TUN_F_TSO6: libc::c_uint = 0x04;
/// The same with congestion notification.
const TUN_F_TSO_ECN: libc::c_uint = 0x08;

/// Whether the header travels with the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireKind {
    /// A tap, whose frames have the header.
    Tap,
    /// A socket of bare frames.
    Frames,
}

/// A descriptor that carries frames, one a read and one a write.
#[derive(Debug)]
pub struct Wire {
    fd: OwnedFd,
    kind: WireKind,
}

impl Wire {
    /// A tap with `IFF_NO_PI | IFF_VNET_HDR`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn tap(fd: OwnedFd) -> io::Result<Self> {
        let length = header::LENGTH as libc::c_int;
        // SAFETY: the argument points to an int, which the kernel reads.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const length) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Self::new(fd, WireKind::Tap)
    }

    /// A socket that keeps messages apart.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn frames(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, WireKind::Frames)
    }

    fn new(fd: OwnedFd, kind: WireKind) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, kind })
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> WireKind {
        self.kind
    }

    /// Lets the kernel send what the driver has said it understands.
    pub(super) fn set_offloads(&self, features: u64) -> io::Result<()> {
        if self.kind == WireKind::Frames {
            return Ok(());
        }
        let offloads = [
            (net::VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM),
            (net::VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4),
            (net::VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6),
            (net::VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN),
        ];
        let flags =
            offloads.iter().filter(|(bit, _)| features >> bit & 1 == 1).fold(0, |all, (_, flag)| all | flag);
        // SAFETY: the argument is a plain number.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
