//! Configures interfaces of the *current* network namespace, over netlink (`rtnetlink(7)`).
//!
//! Meant for the process that has just entered a machine's namespace: synchronous, no threads, no runtime.

pub(crate) mod netlink;

use std::io;
use std::net::Ipv4Addr;

use posada_provider_api::network::management;
use posada_provider_api::{Fault, FaultKind};

use netlink::{Netlink, Routing};

/// What went wrong with an interface.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket could be had.
    #[error("cannot talk to the kernel's network configuration")]
    Netlink(#[source] io::Error),
    /// The interface is not in this namespace.
    #[error("there is no network interface `{0}`")]
    Missing(String),
    /// The kernel refused a step.
    #[error("cannot {step} of network interface `{interface}`")]
    Refused {
        /// Which step: `set the address`.
        step: &'static str,
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Fault for LinkError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Missing(_) => FaultKind::Internal,
            Self::Netlink(_) | Self::Refused { .. } => FaultKind::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => None,
            Self::Netlink(_) | Self::Refused { .. } => Some(
                "network interfaces are made in a user namespace: `posada doctor` tells whether this host permits it"
                    .to_owned(),
            ),
        }
    }
}

/// How an interface is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name in this namespace.
    pub name: &'a str,
    /// Its MAC address; `None` leaves it.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet it carries, bytes; `None` leaves it.
    pub mtu: Option<u16>,
    /// Address and prefix length; `None` gives it none.
    pub address: Option<(Ipv4Addr, u8)>,
    /// Where the default route leads; needs `address`.
    pub gateway: Option<Ipv4Addr>,
}

impl<'a> Interface<'a> {
    /// The interface called `name` as the machine's end of the management network.
    #[must_use]
    pub fn management(name: &'a str, mac: [u8; 6]) -> Self {
        Self {
            name,
            mac: Some(mac),
            mtu: Some(management::MTU),
            address: Some((management::GUEST, management::PREFIX)),
            gateway: Some(management::GATEWAY),
        }
    }
}

/// Brings the loopback interface up; its route acknowledges at once as well, see [`configure`].
///
/// # Errors
/// [`LinkError`], where the caller lacks `CAP_NET_ADMIN` in this namespace.
pub fn up_loopback() -> Result<(), LinkError> {
    let mut netlink = Netlink::open().map_err(LinkError::Netlink)?;
    let index = index_of("lo")?;
    step("lo", "bring up the state", netlink.set_link(index, None, None, true))?;
    let own = Routing::own(index, Ipv4Addr::LOCALHOST);
    step("lo", "tune the route to its own address", netlink.route(&own))
}

/// Gives an interface its MAC address, MTU, address and routes, and brings it up.
///
/// The routes to its own address and to its network acknowledge at once (`quickack`): a delayed
/// acknowledgement costs an SSH login through a forwarded port 40 ms.
///
/// # Errors
/// [`LinkError`], where there is no such interface or the caller lacks `CAP_NET_ADMIN` in this namespace.
pub fn configure(interface: &Interface<'_>) -> Result<(), LinkError> {
    let mut netlink = Netlink::open().map_err(LinkError::Netlink)?;
    let name = interface.name;
    let index = index_of(name)?;
    // A MAC address can be refused while an interface is up; one made a moment ago is down.
    step(name, "set MAC address and MTU", netlink.set_link(index, interface.mac, interface.mtu, false))?;
    if let Some((address, prefix)) = interface.address {
        step(name, "set the address", netlink.add_address(index, address, prefix))?;
    }
    step(name, "bring up the state", netlink.set_link(index, None, None, true))?;
    if let Some((address, prefix)) = interface.address {
        step(name, "tune the route to its own address", netlink.route(&Routing::own(index, address)))?;
        step(
            name,
            "tune the route to its network",
            netlink.route(&Routing::connected(index, address, prefix)),
        )?;
    }
    if let Some(gateway) = interface.gateway {
        step(name, "set the default route", netlink.route(&Routing::default_via(index, gateway)))?;
    }
    Ok(())
}

fn index_of(name: &str) -> Result<u32, LinkError> {
    nix::net::if_::if_nametoindex(name).map_err(|_| LinkError::Missing(name.to_owned()))
}

fn step(interface: &str, step: &'static str, result: io::Result<()>) -> Result<(), LinkError> {
    result.map_err(|source| LinkError::Refused { step, interface: interface.to_owned(), source })
}
