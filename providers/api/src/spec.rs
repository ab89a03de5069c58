//! Everything a provider needs to know to make and run one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{MachineId, MachineName, Network, PrivateNetwork, SyncedFolder};

/// One machine, completely described: no defaults are left open and no paths are relative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Identity on this host.
    pub id: MachineId,
    /// Name in the Vmfile.
    pub name: MachineName,
    /// Host name the machine gives itself.
    pub hostname: String,
    /// Virtual or permitted CPUs; `None` means all of the host's (containers) or one (KVM).
    pub cpus: Option<u32>,
    /// Memory, bytes; `None` means unlimited (containers) or the provider's default.
    pub memory: Option<u64>,
    /// Size of the root disk, bytes; `None` keeps the box's.
    pub disk: Option<u64>,
    /// Most processes and threads; `None` means the provider's default.
    pub pids: Option<u64>,
    /// The read-only layers of the root file system, lowest (the box) first. The machine's writable top
    /// lies above them and belongs to the provider.
    pub layers: Vec<Layer>,
    /// Who may log in, and how the machine proves that it is itself.
    pub access: GuestAccess,
    /// Host folders seen inside, in mount order.
    pub folders: Vec<SyncedFolder>,
    /// Networks besides the management network.
    pub networks: Vec<Network>,
    /// Environment of login sessions.
    pub env: BTreeMap<String, String>,
    /// How long a graceful stop may take before it is forced.
    #[serde(with = "seconds")]
    pub graceful_timeout: Duration,
}

impl MachineSpec {
    /// The private networks it is in, in the Vmfile's order.
    pub fn private_networks(&self) -> impl Iterator<Item = &PrivateNetwork> {
        self.networks.iter().filter_map(|network| match network {
            Network::Private(network) => Some(network),
            _ => None,
        })
    }

    /// How its system takes up who it is to be, where its box is a disk image.
    #[must_use]
    pub fn seeding(&self) -> Option<Seeding> {
        match self.layers.last() {
            Some(Layer::Disk { seeding, .. }) => Some(*seeding),
            Some(Layer::Tree { .. }) | None => None,
        }
    }
}

/// One read-only layer of a machine's root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Layer {
    /// An unpacked tree whose owners are those of the host's id map.
    Tree {
        /// Absolute path of the tree's root.
        path: PathBuf,
    },
    /// A disk image that is never written to.
    Disk {
        /// Absolute path of the image.
        path: PathBuf,
        /// How it is laid out.
        format: DiskFormat,
        /// What to boot; `None` where the image holds no kernel that could be found.
        boot: Option<BootSource>,
        /// How its system takes up who it is to be.
        seeding: Seeding,
    },
}

impl Layer {
    /// The tree's root, where it is a tree.
    #[must_use]
    pub fn tree(&self) -> Option<&Path> {
        match self {
            Self::Tree { path } => Some(path),
            Self::Disk { .. } => None,
        }
    }
}

/// How a disk image is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// The disk's bytes, one for one.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

/// What a disk's own boot loader would start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSource {
    /// Absolute path of the kernel: a bzImage or an ELF file.
    pub kernel: PathBuf,
    /// Absolute path of the initial RAM file system, all its parts joined; `None` where there is none.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line, with `root=`.
    pub cmdline: String,
}

/// How a system on a disk takes up, at its first boot, who it is to be: its keys, its names, its login user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seeding {
    /// cloud-init is installed and reads a NoCloud volume.
    CloudInit,
    /// The login user lets in whoever has Vagrant's published key, to replace it.
    InsecureKey,
    /// Nothing that is known.
    None,
}

/// A command that root of a machine runs over SSH at each start, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What it sets, as the subject of a sentence: ``the host name``.
    pub what: String,
    /// An argument vector: a fixed script and its arguments. Done twice, it changes nothing.
    pub command: Vec<String>,
}

/// What a machine is told over SSH at each start, in order, as nothing in it takes it up by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The settings.
    pub settings: Vec<Setting>,
    /// What could not be told as asked, a sentence each.
    pub warnings: Vec<String>,
}

/// Who may log in over SSH, and the machine's own key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestAccess {
    /// The login user; it exists in the box.
    pub user: String,
    /// Public key the user may log in with, in OpenSSH's one-line form.
    pub authorized_key: String,
    /// The machine's private ed25519 host key, in OpenSSH's PEM form.
    pub host_key: String,
    /// Its public half, in OpenSSH's one-line form.
    pub host_key_public: String,
}

impl fmt::Debug for GuestAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestAccess")
            .field("user", &self.user)
            .field("host_key_public", &self.host_key_public)
            .finish_non_exhaustive()
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(value.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}
