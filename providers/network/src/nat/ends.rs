//! The two ends of a conversation of the guest.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use posada_provider_api::network::management::GATEWAY;

/// Ports that conversations with the guest come from (RFC 6335, section 6).
const DYNAMIC_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// The guest's port, and the address and port that it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) guest: u16,
    pub(super) remote: (Ipv4Addr, u16),
}

/// Gives out the gateway's ports in turn.
#[derive(Debug)]
pub(super) struct Ports(u16);

impl Ports {
    pub(super) fn new() -> Self {
        Self(*DYNAMIC_PORTS.start())
    }

    /// Ends for a conversation with the guest's `port` that is not `taken`; `None` where all are.
    pub(super) fn next(&mut self, port: u16, taken: impl Fn(&Ends) -> bool) -> Option<Ends> {
        DYNAMIC_PORTS.into_iter().find_map(|_| {
            let ends = Ends { guest: port, remote: (GATEWAY, self.0) };
            self.0 = self.0.checked_add(1).unwrap_or(*DYNAMIC_PORTS.start());
            (!taken(&ends)).then_some(ends)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_found_and_exhaustion_is_told() {
        let mut ports = Ports::new();
        assert_eq!(ports.next(22, |_| false).unwrap().remote.1, 49_152);
        assert_eq!(ports.next(22, |_| false).unwrap().remote.1, 49_153);
        assert_eq!(ports.next(22, |ends| ends.remote.1 != 50_000).unwrap().remote, (GATEWAY, 50_000));
        assert_eq!(ports.next(22, |_| true), None);
    }
}
