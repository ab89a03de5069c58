//! What a Vmfile says, once its defaults are merged, its parameters put in and every fault ruled out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use posada_box_catalog::{BoxRef, VersionReq};
use posada_provider_api::{MachineName, Network, SyncedFolder};
use posada_provisioners::{Place, Step};

/// How long SSH may take to come, where a Vmfile does not say.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a graceful stop may take, where a Vmfile does not say.
pub const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(10);

/// A Vmfile without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Vmfile {
    /// The file it was read from.
    pub file: PathBuf,
    /// Its machines, in file order; at least one, no two of one name.
    pub machines: Vec<MachineConfig>,
    /// The parameters it declares, in file order.
    pub params: Vec<Param>,
}

impl Vmfile {
    /// The machine called `name`.
    #[must_use]
    pub fn machine(&self, name: &MachineName) -> Option<&MachineConfig> {
        self.machines.iter().find(|machine| machine.name == *name)
    }

    /// The names of its machines, in file order.
    pub fn names(&self) -> impl Iterator<Item = &MachineName> {
        self.machines.iter().map(|machine| &machine.name)
    }
}

/// A parameter that a Vmfile declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Its name, as in `${param:name}`.
    pub name: String,
    /// The value it has in this run.
    pub value: String,
    /// The value it has where `--param` does not give one.
    pub default: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// One machine, with the file's top-level defaults merged in.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// Its name.
    pub name: MachineName,
    /// Where it stands in the file.
    pub place: Place,
    /// Its box. The path of a file box is absolute.
    pub box_ref: BoxRef,
    /// Which versions of the box will do; `None` means the newest.
    pub box_version: Option<VersionReq>,
    /// The box that a virtual machine has its kernel from, where its own box has none.
    pub kernel: Option<BoxRef>,
    /// The backend asked for.
    pub provider: ProviderChoice,
    /// CPUs; `None` leaves it to the provider.
    pub cpus: Option<u32>,
    /// Memory, bytes; `None` leaves it to the provider.
    pub memory: Option<u64>,
    /// Size of the root disk, bytes; `None` keeps the box's.
    pub disk: Option<u64>,
    /// Host name the machine gives itself; the machine's name where the file does not say.
    pub hostname: String,
    /// Networks besides the management network, in file order. `ssh.port` is among them as a forward.
    pub networks: Vec<Network>,
    /// Host folders seen inside, in file order.
    pub synced_folders: Vec<SyncedFolder>,
    /// Provisioning steps, in file order.
    pub provision: Vec<Step>,
    /// How it is logged into.
    pub ssh: SshConfig,
    /// Environment of login sessions and provisioning steps.
    pub env: BTreeMap<String, String>,
    /// The machines that must be up and healthy before this one starts.
    pub depends_on: Vec<MachineName>,
    /// How to tell that it does its work; `None` means that SSH is enough.
    pub healthcheck: Option<HealthCheck>,
    /// What to tell the user when it is up.
    pub post_up_message: Option<String>,
    /// How long a graceful stop may take before it is forced.
    pub graceful_timeout: Duration,
}

/// The backend a Vmfile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProviderChoice {
    /// KVM where a stock guest kernel can run, else a container.
    #[default]
    Auto,
    /// A virtual machine.
    Kvm,
    /// A Linux system container.
    Container,
}

/// How a machine is logged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    /// Login user; `None` takes the box's.
    pub username: Option<String>,
    /// A fixed port on the host's loopback address that leads to the machine's sshd.
    pub port: Option<u16>,
    /// Whether the caller's SSH agent is passed on by `posada ssh`.
    pub forward_agent: bool,
    /// How long SSH may take to come after the machine was started.
    pub boot_timeout: Duration,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self { username: None, port: None, forward_agent: false, boot_timeout: BOOT_TIMEOUT }
    }
}

/// How to tell that a machine does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is tried.
    pub test: HealthTest,
    /// Pause between the end of a failed probe and the next one.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// How long after SSH has come the first success may take.
    pub start_timeout: Duration,
}

/// What a health check tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTest {
    /// A command, run in the machine by the login user's shell; healthy when it exits with 0.
    Command(String),
    /// A TCP port of the machine; healthy when it accepts a connection.
    Tcp(u16),
    /// An HTTP request to the machine; healthy when it is answered with 200 to 399.
    Http {
        /// Port in the machine.
        port: u16,
        /// Path and query, from `/`.
        path: String,
    },
}
