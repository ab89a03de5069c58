//! What goes into a seed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use posada_provider_api::{GuestAccess, MachineId};
use serde::Serialize;

/// What a machine is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedInput {
    /// Identity on this host, the constant part of the instance id.
    pub machine: MachineId,
    /// Host name, with its domain where it has one.
    pub hostname: String,
    /// Who may log in, and the host key.
    pub access: GuestAccess,
    /// Environment of login sessions.
    pub env: BTreeMap<String, String>,
    /// Network interfaces.
    pub nics: Vec<Nic>,
    /// Synced folders, in mount order.
    pub folders: Vec<SeedFolder>,
    /// How the machine hears of what changes in them on the host; `None` where it does not.
    pub changes: Option<Changes>,
}

/// How a machine hears of what changes in its synced folders on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Name of the virtio console's port that tells it (virtio 1.2 §5.3.6.2): letters, digits, dots. A line is a folder's
    /// tag and paths in it, separated by blanks; a byte of a path is written as itself where it is a letter, a digit or
    /// one of `._/-`, else as `\0` and three octal digits.
    pub port: String,
    /// The time of modification, seconds since 1970, that raises events of a file and sets nothing.
    pub raising: u64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The name it gets in the machine: `eth0`.
    pub name: String,
    /// The MAC address it is known by.
    pub mac: [u8; 6],
    /// Where its address comes from.
    pub addressing: Addressing,
}

impl Nic {
    /// The MAC address in words: `52:3f:9a:1c:20:00`.
    pub(super) fn mac_words(&self) -> String {
        let octets: Vec<String> = self.mac.iter().map(|octet| format!("{octet:02x}")).collect();
        octets.join(":")
    }
}

/// Where an interface's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// From the user-mode NAT's DHCP. The boot waits for it. There is no IPv6.
    Nat,
    /// From the DHCP server of a network outside. The boot does not wait for it.
    Dhcp,
    /// It is given: an address and a prefix length. The boot does not wait for it.
    Static(Ipv4Addr, u8),
}

/// A synced folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFolder {
    /// Tag of the virtio file system device (virtio 1.2 §5.11.4).
    pub tag: String,
    /// Absolute path in the machine. Directories that are missing are made; those in the login user's home are the
    /// user's.
    pub target: String,
    /// Whether the machine may only read.
    pub read_only: bool,
}

/// A [`Nic`] as its template wants it.
#[derive(Serialize)]
pub(super) struct NicWords {
    name: String,
    mac: String,
    address: Option<String>,
    ipv6: bool,
    optional: bool,
}

impl From<&Nic> for NicWords {
    fn from(nic: &Nic) -> Self {
        let address = match nic.addressing {
            Addressing::Static(ip, prefix) => Some(format!("{ip}/{prefix}")),
            Addressing::Nat | Addressing::Dhcp => None,
        };
        let nat = nic.addressing == Addressing::Nat;
        Self { name: nic.name.clone(), mac: nic.mac_words(), address, ipv6: !nat, optional: !nat }
    }
}
