//! The few requests that are made of the kernel over `NETLINK_ROUTE`, each acknowledged before the next.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Table 255 of `rtnetlink(7)`: routes to a host's own addresses.
const RT_TABLE_LOCAL: u8 = 255;
const RT_TABLE_MAIN: u8 = 254;

/// An open conversation with the kernel.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A route, as far as we set any.
pub(crate) struct Routing {
    table: u8,
    kind: RouteType,
    scope: RouteScope,
    protocol: RouteProtocol,
    destination: Option<(Ipv4Addr, u8)>,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    interface: u32,
    quick_ack: bool,
}

impl Routing {
    /// The route to the interface's own address, which the kernel made with the address.
    pub(crate) fn own(interface: u32, address: Ipv4Addr) -> Self {
        Self {
            table: RT_TABLE_LOCAL,
            kind: RouteType::Local,
            scope: RouteScope::Host,
            protocol: RouteProtocol::Kernel,
            destination: Some((address, 32)),
            gateway: None,
            source: Some(address),
            interface,
            quick_ack: true,
        }
    }

    /// The route to the interface's network, which the kernel made with the address.
    pub(crate) fn connected(interface: u32, address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self {
            table: RT_TABLE_MAIN,
            kind: RouteType::Unicast,
            scope: RouteScope::Link,
            protocol: RouteProtocol::Kernel,
            destination: Some((Ipv4Addr::from_bits(address.to_bits() & mask), prefix)),
            gateway: None,
            source: Some(address),
            interface,
            quick_ack: true,
        }
    }

    /// The default route.
    pub(crate) fn default_via(interface: u32, gateway: Ipv4Addr) -> Self {
        Self {
            table: RT_TABLE_MAIN,
            kind: RouteType::Unicast,
            scope: RouteScope::Universe,
            protocol: RouteProtocol::Static,
            destination: None,
            gateway: Some(gateway),
            source: None,
            interface,
            quick_ack: false,
        }
    }
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    pub(crate) fn set_link(
        &mut self,
        index: u32,
        mac: Option<[u8; 6]>,
        mtu: Option<u16>,
        up: bool,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.extend(mtu.map(|mtu| LinkAttribute::Mtu(u32::from(mtu))));
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Makes a pair of virtual Ethernet interfaces: `name` here, `peer` in the namespace of `elsewhere`.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        mac: [u8; 6],
        peer: &str,
        elsewhere: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut far = LinkMessage::default();
        far.attributes =
            vec![LinkAttribute::IfName(peer.to_owned()), LinkAttribute::NetNsFd(elsewhere.as_raw_fd())];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ];
        // Here alone something must not be there before: another's interface is not to be taken over.
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.header.scope = AddressScope::Universe;
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
            AddressAttribute::Broadcast(Ipv4Addr::from_bits(address.to_bits() | host_bits)),
        ];
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route, or replaces the one to the same destination.
    pub(crate) fn route(&mut self, route: &Routing) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = route.table;
        message.header.kind = route.kind;
        message.header.scope = route.scope;
        message.header.protocol = route.protocol;
        let attributes = &mut message.attributes;
        if let Some((destination, prefix)) = route.destination {
            message.header.destination_prefix_length = prefix;
            attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
        }
        attributes.extend(route.gateway.map(|via| RouteAttribute::Gateway(RouteAddress::Inet(via))));
        attributes.extend(route.source.map(|from| RouteAttribute::PrefSource(RouteAddress::Inet(from))));
        attributes.push(RouteAttribute::Oif(route.interface));
        if route.quick_ack {
            attributes.push(RouteAttribute::Metrics(vec![RouteMetric::QuickAck(1)]));
        }
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (reply, _) = self.socket.recv_from_full()?;
            let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if reply.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = reply.payload {
                return error.code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(-code.get())));
            }
        }
    }
}
