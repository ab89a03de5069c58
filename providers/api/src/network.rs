//! Network settings of a machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// A transport protocol that can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One entry of a machine's `networks`. The management network (user-mode NAT) is always there and has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Network {
    /// A port of the host that leads to a port of the machine.
    Forward(Forward),
    /// A network between machines.
    Private(PrivateNetwork),
    /// A place on the host's own network.
    Bridged(BridgedNetwork),
}

/// A port of the host that leads to a port of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Port in the machine, 1 to 65535.
    pub guest: u16,
    /// Port on the host; 0 lets the kernel choose a free one.
    pub host: u16,
    /// Address on the host that is listened on.
    pub host_ip: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whether a taken host port is replaced by a free one instead of being an error.
    pub auto_correct: bool,
    /// A name for people, shown by `posada port`.
    pub name: Option<String>,
}

/// A forward as it is in force on a running machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedPort {
    /// What was asked for.
    pub asked: Forward,
    /// The host port that is really bound; differs from `asked.host` where that was 0 or auto-corrected.
    pub host: u16,
}

/// A network between machines of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateNetwork {
    /// Network name; machines that name the same one see each other.
    pub name: String,
    /// The machine's address there; `None` takes one from the network's own lease table.
    pub ip: Option<Ipv4Addr>,
    /// Prefix length of `ip`, 8 to 30.
    pub prefix: u8,
}

/// A place on the host's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgedNetwork {
    /// Host interface or bridge; `None` takes the one with the default route.
    pub interface: Option<String>,
    /// A fixed address with prefix length; `None` asks the network's DHCP server.
    pub ip: Option<(Ipv4Addr, u8)>,
}

/// Addresses of the management network; the same in every machine, as each has a network of its own.
pub mod management {
    use std::net::Ipv4Addr;

    /// Prefix length of the network.
    pub const PREFIX: u8 = 24;
    /// The gateway, which is also the host: connections to it reach the host's loopback address.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// The name server.
    pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
    /// The machine.
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// Name under which the machine finds the host.
    pub const HOST_NAME: &str = "host.posada.internal";
    /// MAC address of gateway and name server.
    pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];
    /// Largest IP packet, bytes. Nothing but memory lies between machine and gateway, and large packets carry several
    /// times the data of small ones for the same work.
    pub const MTU: u16 = 65_520;
}
