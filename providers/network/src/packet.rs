//! A machine's cable without `/dev/net/tun`: a pair of virtual Ethernet interfaces, of which one is the machine's and
//! the other lies in a network namespace of its own, read and written by a packet socket (`veth(4)`, `packet(7)`).
//!
//! Takes nothing but `CAP_SYS_ADMIN`, `CAP_NET_ADMIN` and `CAP_NET_RAW` in the user namespace that owns the machine's
//! network, where a tap also takes the device node. A tap is faster and queues more: this is the second choice.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use posada_provider_api::{Fault, FaultKind};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::link::netlink::Netlink;

/// Name of the far interface, in its own namespace.
const FAR: &str = "gate";

/// The largest packet such a pair can carry (`ETH_MAX_MTU`).
const LARGEST: u16 = u16::MAX;

/// `ioctl(2)` and commands of `linux/ethtool.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// What went wrong when the pair was made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} for network interface `{interface}`")]
pub struct PacketError {
    /// Which step: `make a network namespace`.
    step: &'static str,
    /// The machine's interface.
    interface: String,
    /// Why.
    #[source]
    source: io::Error,
}

impl Fault for PacketError {
    fn kind(&self) -> FaultKind {
        FaultKind::Environment
    }

    fn hint(&self) -> Option<String> {
        Some(
            "let users open /dev/net/tun: `sudo chmod 0666 /dev/net/tun` (a udev rule makes it last)"
                .to_owned(),
        )
    }
}

/// Makes the interface `name` with the MAC address `mac` in the current network namespace and returns the far end of
/// its cable: each read and write of it, which does not block, is one Ethernet frame. The interface ends when it is
/// closed, as soon as the kernel comes to it.
///
/// The calling thread visits a fresh network namespace meanwhile, and is back when this returns.
///
/// # Errors
/// [`PacketError`], where the caller lacks rights in this namespace, or veth interfaces are not to be had.
pub fn create(name: &str, mac: [u8; 6]) -> Result<OwnedFd, PacketError> {
    let failed = |step| move |source| PacketError { step, interface: name.to_owned(), source };
    let near = current_namespace().map_err(failed("name the network namespace"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(failed("make a network namespace"))?;
    let far = current_namespace();
    enter(&near).map_err(failed("return to the network namespace"))?;
    let far = far.map_err(failed("name the new network namespace"))?;

    let mut netlink = Netlink::open().map_err(failed("talk to the kernel's network configuration"))?;
    netlink.add_veth(name, mac, FAR, far.as_fd()).map_err(failed("make a pair of interfaces"))?;
    // Frames leave this host's kernel here: their checksums have to be right, and their size that of the interface.
    fill_checksums(name).map_err(failed("have checksums filled in"))?;

    enter(&far).map_err(failed("enter the new network namespace"))?;
    let socket = open_far_end();
    enter(&near).map_err(failed("return to the network namespace"))?;
    socket.map_err(failed("open the far end"))
}

fn current_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn open_far_end() -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(FAR)?;
    Netlink::open()?.set_link(index, None, Some(LARGEST), true)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Protocol 0 hears nothing until it is bound to the interface.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // As much of a queue as the host allows: a tap has room for a thousand frames.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 24)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1 << 24)?;
    bind(&socket, index)?;
    Ok(socket)
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the option takes one `int`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the descriptor is open, and the address is a whole `sockaddr_ll`, which outlives the call.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Turns transmit checksum offload off, and with it segmentation offload.
fn fill_checksums(name: &str) -> io::Result<()> {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the descriptor is open; the request points to an `ethtool_value`, and both outlive the call.
    let result = unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL, std::ptr::from_mut(&mut request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
