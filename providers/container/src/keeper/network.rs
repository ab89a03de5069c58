//! The keeper's side of a machine's network: its interface, and sockets made in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use posada_network::link::{self, Interface};
use posada_network::tap::{self, TapError};
use posada_network::{packet, private};
use posada_provider_api::network::management;
use posada_provider_api::{Fault, MachineId, MachineSpec, Protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Pid;

use crate::failure::{During, Failure};

/// Name of the machine's interface to the management network.
const INTERFACE: &str = "eth0";

/// The container's namespaces that its keeper enters: never that of processes.
#[derive(Debug)]
pub struct Namespaces {
    user: OwnedFd,
    network: OwnedFd,
}

impl Namespaces {
    /// Those of process `pid`.
    ///
    /// # Errors
    /// Those of opening `/proc/PID/ns/…`.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/{}/ns/{name}", pid.as_raw_nonzero()));
        Ok(Self { user: open("user")?.into(), network: open("net")?.into() })
    }

    /// Enters the user namespace.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn enter_user(&self) -> io::Result<()> {
        Ok(setns(self.user.as_fd(), CloneFlags::CLONE_NEWUSER)?)
    }

    /// Enters the network namespace.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn enter_network(&self) -> io::Result<()> {
        Ok(setns(self.network.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }
}

/// Configures the network that has been entered, and returns the far end of its cable. Where the host permits
/// none at all the machine has its address, so that forwards work, but no way out.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
fn configure(id: &MachineId, warnings: &mut Vec<String>) -> Result<Option<OwnedFd>, Failure> {
    link::up_loopback().map_err(|error| Failure::of(&error))?;
    let mac = id.mac(0);
    match cable(INTERFACE, mac) {
        Ok(cable) => {
            link::configure(&Interface::management(INTERFACE, mac)).map_err(|error| Failure::of(&error))?;
            Ok(Some(cable))
        }
        Err(error @ TapError::Device(_)) => {
            let address = Some((management::GUEST, 32));
            let alone = Interface { name: "lo", mac: None, mtu: None, address, gateway: None };
            link::configure(&alone).map_err(|error| Failure::of(&error))?;
            let remedy = error.hint().unwrap_or_default();
            warnings.push(format!("the machine has no way out: {}: {remedy}", chain(&error)));
            Ok(None)
        }
        Err(error) => Err(Failure::of(&error)),
    }
}

/// Makes an interface, and returns the far end of its cable.
fn cable(name: &str, mac: [u8; 6]) -> Result<OwnedFd, TapError> {
    match tap::create(name, mac) {
        // The device is closed to ordinary users on some hosts.
        Err(error @ TapError::Device(_)) => packet::create(name, mac).map_err(|_| error),
        made => made,
    }
}

/// An interface for each private network, `eth1` and on.
fn configure_private(spec: &MachineSpec) -> Result<Vec<OwnedFd>, Failure> {
    let mut cables = Vec::new();
    for (network, index) in spec.private_networks().zip(1u8..) {
        let (name, mac) = (format!("eth{index}"), spec.id.mac(index));
        let cable = cable(&name, mac).map_err(|error| Failure::of(&error))?;
        let address = network.ip.map(|ip| (ip, network.prefix));
        let interface =
            Interface { name: &name, mac: Some(mac), mtu: Some(private::MTU), address, gateway: None };
        link::configure(&interface).map_err(|error| Failure::of(&error))?;
        cables.push(cable);
    }
    Ok(cables)
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A fresh socket in the network that has been entered.
///
/// # Errors
/// Those of socket(2).
pub fn socket(protocol: Protocol) -> io::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    Ok(socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?)
}

/// The kernel's number of an error.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// The far ends of a machine's cables.
#[derive(Debug)]
pub struct Cables {
    /// The management network's; `None` where the host permits none.
    pub way_out: Option<OwnedFd>,
    /// Those of the private networks, in the spec's order.
    pub private: Vec<OwnedFd>,
}

/// Enters both namespaces in the order that the caller's rights allow, and configures the network.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn enter(
    namespaces: &Namespaces,
    privileged: bool,
    spec: &MachineSpec,
    warnings: &mut Vec<String>,
) -> Result<Cables, Failure> {
    let entering = "enter the machine's network";
    if !privileged {
        // An ordinary user has rights over the network only as a member of the machine's users.
        namespaces.enter_user().during(entering)?;
    }
    // A tap belongs to the network that its device was opened in.
    namespaces.enter_network().during(entering)?;
    Ok(Cables { way_out: configure(&spec.id, warnings)?, private: configure_private(spec)? })
}
