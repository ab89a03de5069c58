//! What a machine is to be: plain values and open descriptors. Nothing here reads a file or knows a default of
//! Posada's.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::fuse::Root;
use crate::fuse::watch::Changes;

/// One machine, completely described.
#[derive(Debug)]
pub struct VmConfig {
    /// Name, for thread names and messages.
    pub name: String,
    /// Virtual CPUs, 1 to 32.
    pub cpus: u8,
    /// Memory, bytes; a multiple of 2 MiB, at least 64 MiB.
    pub memory: u64,
    /// What is started.
    pub boot: Boot,
    /// Where the first serial line ends: what the guest prints is written to it, what is read from it is typed.
    /// A stream socket.
    pub serial: OwnedFd,
    /// Its virtio devices.
    pub devices: Devices,
}

/// A machine's virtio devices.
#[derive(Debug, Default)]
pub struct Devices {
    /// Disks in the order the guest sees them; the first is `/dev/vda`.
    pub disks: Vec<Disk>,
    /// Network interfaces in the order the guest sees them.
    pub nics: Vec<Nic>,
    /// Host folders by virtiofs.
    pub folders: Vec<Folder>,
    /// A socket between host and guest without a network.
    pub vsock: Option<Vsock>,
    /// Whether the guest gives free memory back.
    pub balloon: bool,
    /// Where the virtio console (`/dev/hvc0`) ends, a stream socket; `None` for none.
    pub console: Option<OwnedFd>,
    /// Named ports beside it.
    pub ports: Vec<Port>,
    /// Who hears of what goes wrong with a disk while the machine runs.
    pub faults: Option<FaultListener>,
}

/// Hears, in words for people, of what goes wrong on the host while the guest merely sees an error. Called on devices'
/// threads.
#[derive(Clone)]
pub struct FaultListener(Arc<dyn Fn(&str) + Send + Sync>);

impl FaultListener {
    /// One that calls `hear`.
    #[must_use]
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells it.
    pub(crate) fn tell(&self, what: &str) {
        (self.0)(what);
    }
}

impl fmt::Debug for FaultListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultListener")
    }
}

/// What is started. Files are read once, at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// A bzImage or an ELF kernel.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub cmdline: String,
}

/// Which format an image has. Told, never guessed: a guest can write whatever header it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk, byte for byte.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3, with its chain of backing files.
    Qcow2,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its image.
    pub path: PathBuf,
    /// The image's format.
    pub format: DiskFormat,
    /// The files that may lie behind it, in any order: an image whose header names another is refused.
    pub backing: Vec<PathBuf>,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Serial number, at most 20 bytes of ASCII.
    pub serial: String,
}

/// A network interface.
#[derive(Debug)]
pub struct Nic {
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes; told to the guest.
    pub mtu: u16,
    /// What it is plugged into.
    pub backend: NicBackend,
}

/// What a network interface is plugged into.
#[derive(Debug)]
pub enum NicBackend {
    /// A tap with `IFF_NO_PI | IFF_VNET_HDR`, opened and set up; must not block.
    Tap(OwnedFd),
    /// A `SOCK_SEQPACKET` or `SOCK_DGRAM` Unix socket of which each message is an Ethernet frame without checksum
    /// offload; must not block.
    Frames(OwnedFd),
}

/// A folder of the host, by virtiofs.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its tag, by which the guest mounts it; at most 36 bytes.
    pub tag: String,
    /// The folder.
    pub root: Root,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whose files are whose.
    pub owners: Owners,
    /// Who hears of what changes in it on the host; `None` where nobody watches it.
    pub changes: Option<ChangeListener>,
}

/// Hears of what changes in a folder on the host. Called on a thread of the folder's, which it must not hold up.
#[derive(Clone)]
pub struct ChangeListener(Arc<dyn Fn(&Changes) + Send + Sync>);

impl ChangeListener {
    /// One that calls `hear`.
    #[must_use]
    pub fn new(hear: impl Fn(&Changes) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells it.
    pub(crate) fn tell(&self, changes: &Changes) {
        (self.0)(changes);
    }
}

impl fmt::Debug for ChangeListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeListener")
    }
}

/// A named byte stream between host and guest (`/dev/virtio-ports/NAME`).
#[derive(Debug)]
pub struct Port {
    /// Its name, by which the guest finds it; a reversed domain name by custom.
    pub name: String,
    /// Where it ends: a stream socket.
    pub stream: OwnedFd,
}

/// How owners are translated between a folder of the host and the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// User and group of the host whose files belong to the guest's login user.
    pub host: (u32, u32),
    /// User and group of the guest's login user.
    pub guest: (u32, u32),
}

/// A socket between host and guest (virtio 1.2, section 5.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vsock {
    /// The guest's context id, at least 3.
    pub cid: u64,
    /// The Unix socket the monitor listens on for connections into the guest (`CONNECT PORT`), and the stem of those
    /// (`_PORT`) it connects to for the guest.
    pub path: PathBuf,
}
