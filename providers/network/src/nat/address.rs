//! Where an address of the guest's world leads.

use std::net::Ipv4Addr;

use posada_provider_api::network::management::{DNS, GATEWAY, PREFIX};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// To our own name server.
    Resolver,
    /// To this address, as the host sees it.
    Host(Ipv4Addr),
    /// Nothing can be there.
    Nowhere,
}

/// Finds out where `address` leads.
pub(super) fn destination(address: Ipv4Addr) -> Destination {
    let mask = u32::MAX << (32 - PREFIX);
    let ours = address.to_bits() & mask == GATEWAY.to_bits() & mask;
    if address == GATEWAY {
        Destination::Host(Ipv4Addr::LOCALHOST)
    } else if address == DNS {
        Destination::Resolver
    } else if ours
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
    {
        Destination::Nowhere
    } else {
        Destination::Host(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateway_reaches_the_host_itself() {
        assert_eq!(destination(GATEWAY), Destination::Host(Ipv4Addr::LOCALHOST));
        assert_eq!(destination(DNS), Destination::Resolver);
        let world = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(destination(world), Destination::Host(world));
        for nowhere in
            ["127.0.0.1", "10.0.2.15", "10.0.2.9", "10.0.2.255", "224.0.0.1", "255.255.255.255", "0.0.0.0"]
        {
            assert_eq!(destination(nowhere.parse().unwrap()), Destination::Nowhere, "{nowhere}");
        }
    }
}
