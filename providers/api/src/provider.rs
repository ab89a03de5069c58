//! The trait that every backend implements.
//!
//! ```text
//!            create          start             suspend
//!   absent ────────► stopped ─────► running ◄───────────► suspended
//!      ▲                ▲              │       resume          │
//!      └──── destroy ───┴──── stop ────┴───────────────────────┘
//! ```
//! `destroy` is legal in every state, also after a crash at any point of another call. `stop` and `destroy` on
//! what is already so are no errors. The caller holds the machine's lock during every call that changes state.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Content, Fault, FaultKind, ForwardedPort, MachineDir, MachineSpec, Observer, Settings};

/// The backends there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// A virtual machine on the built-in monitor.
    Kvm,
    /// A Linux system container.
    Container,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Container => "container",
        })
    }
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// There is nothing of it.
    Absent,
    /// It exists and does not run.
    Stopped,
    /// Its supervisor lives and its init has been started.
    Running,
    /// It exists, frozen in place.
    Suspended,
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absent => "absent",
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Suspended => "suspended",
        })
    }
}

/// What a backend can do beyond what all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `suspend` and `resume`.
    pub suspend: bool,
    /// `snapshot`.
    pub snapshot: bool,
    /// Machines have a page cache of their own: what they write is lost with their supervisor until they sync it.
    pub own_cache: bool,
}

/// Whether a backend can be used on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Usable,
    /// It cannot.
    Unusable {
        /// Why, in a few words.
        reason: String,
        /// What would make it usable.
        remedy: String,
    },
}

/// How a machine is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopRequest {
    /// Ask its init to shut down; force it after this long.
    Graceful(Duration),
    /// At once.
    Forced,
}

/// How a machine has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether it had to be forced, or was asked to be.
    pub forced: bool,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// Where a machine's sshd is reached from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshEndpoint {
    /// Address and port on the host.
    pub address: SocketAddr,
}

/// What can be done with snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotOp {
    /// Take one.
    Save(String),
    /// Go back to one.
    Restore(String),
    /// Forget one.
    Delete(String),
}

/// A stream to a machine's console: what is written is typed, what is read was printed.
#[derive(Debug)]
pub struct Console {
    /// A connected Unix stream socket.
    pub stream: OwnedFd,
}

/// What can go wrong in a provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The backend cannot do this at all.
    #[error("the {provider} provider does not support {what}")]
    Unsupported {
        /// Which backend.
        provider: ProviderKind,
        /// What was asked of it: `snapshots`.
        what: String,
    },
    /// The host lacks or refuses something.
    #[error("{what}")]
    Host {
        /// What happened, on what.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// A host port is taken.
    #[error("port {address}/{protocol} is taken by {holder}")]
    PortTaken {
        /// Address and port that could not be bound.
        address: SocketAddr,
        /// TCP or UDP.
        protocol: crate::Protocol,
        /// Who holds it, as far as it can be seen.
        holder: String,
    },
    /// The box cannot run on this backend.
    #[error("the box cannot run: {what}")]
    Box {
        /// What is wrong with it.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// The machine did not start, or died.
    #[error("{what}")]
    Machine {
        /// What happened.
        what: String,
        /// The last lines of its console, oldest first.
        console: Vec<String>,
    },
    /// The machine is not in a state for this.
    #[error("the machine is {is}, it must be {must}")]
    State {
        /// Its state.
        is: MachineState,
        /// What it must be: `running`.
        must: &'static str,
    },
    /// A fault of ours, or one nobody foresaw.
    #[error("{what}")]
    Internal {
        /// What was being done, and what came of it.
        what: String,
    },
}

impl Fault for ProviderError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unsupported { .. } | Self::State { .. } => FaultKind::User,
            Self::Host { .. } | Self::PortTaken { .. } => FaultKind::Environment,
            Self::Box { .. } => FaultKind::Box,
            Self::Machine { .. } => FaultKind::Machine,
            Self::Internal { .. } => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Host { remedy, .. } | Self::Box { remedy, .. } => Some(remedy.clone()),
            Self::PortTaken { .. } => Some(
                "stop what holds the port, choose another `host` port, or set `auto_correct: true`"
                    .to_owned(),
            ),
            Self::State { must: "running", .. } => Some("start it with `posada up`".to_owned()),
            _ => None,
        }
    }
}

/// A backend that makes and runs machines. Implementations hold no state between calls: what they know of a
/// machine is in its [`MachineDir`] and in its supervisor.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Which backend this is.
    fn kind(&self) -> ProviderKind;

    /// What it can do beyond what all can.
    fn features(&self) -> Features;

    /// Whether it can be used here, and if not, why and what to do.
    async fn availability(&self) -> Availability;

    /// What a machine of this description has to be told over SSH at each start, once it has its keys.
    ///
    /// # Errors
    /// [`ProviderError::Host`] where it asks for something that cannot be told.
    fn settings(&self, _spec: &MachineSpec) -> Result<Settings, ProviderError> {
        Ok(Settings::default())
    }

    /// Makes the machine's writable layer. Legal on a machine that was created before: it is then completed.
    ///
    /// # Errors
    /// [`ProviderError::Host`], [`ProviderError::Box`].
    async fn create(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError>;

    /// Starts the machine with `spec` and returns when its init runs. Legal when stopped.
    ///
    /// # Errors
    /// [`ProviderError::Machine`] where it dies at once, [`ProviderError::PortTaken`], and those of `create`.
    async fn start(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError>;

    /// Stops the machine and returns when nothing of it runs.
    ///
    /// # Errors
    /// [`ProviderError::Machine`] where even force does not help.
    async fn stop(&self, dir: &MachineDir, request: StopRequest) -> Result<Stopped, ProviderError>;

    /// Freezes a running machine.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`], [`ProviderError::State`].
    async fn suspend(&self, dir: &MachineDir) -> Result<(), ProviderError>;

    /// Lets a frozen machine go on.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`], [`ProviderError::State`].
    async fn resume(&self, dir: &MachineDir) -> Result<(), ProviderError>;

    /// Takes, restores or deletes a snapshot.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`], [`ProviderError::State`].
    async fn snapshot(&self, dir: &MachineDir, op: SnapshotOp) -> Result<(), ProviderError>;

    /// The names of the machine's snapshots, oldest first.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where the backend takes none.
    async fn snapshots(&self, dir: &MachineDir) -> Result<Vec<String>, ProviderError> {
        let _ = dir;
        Err(ProviderError::Unsupported { provider: self.kind(), what: "snapshots".to_owned() })
    }

    /// Ends the machine at once and removes all that the provider made for it, on the host and in `dir`.
    /// The directory itself is the caller's.
    ///
    /// # Errors
    /// [`ProviderError::Host`] where something cannot be removed.
    async fn destroy(&self, dir: &MachineDir) -> Result<(), ProviderError>;

    /// What the machine holds. Legal when stopped; true until it is started.
    ///
    /// # Errors
    /// [`ProviderError::Host`], [`ProviderError::Box`].
    async fn content(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<Content, ProviderError>;

    /// What the machine is doing, read from truth.
    ///
    /// # Errors
    /// [`ProviderError::Internal`] where it cannot be read.
    async fn state(&self, dir: &MachineDir) -> Result<MachineState, ProviderError>;

    /// The forwards in force on a running machine.
    ///
    /// # Errors
    /// [`ProviderError::State`] where it does not run.
    async fn forwards(&self, dir: &MachineDir) -> Result<Vec<ForwardedPort>, ProviderError>;

    /// Where the machine's sshd is reached from the host.
    ///
    /// # Errors
    /// [`ProviderError::State`] where it does not run.
    async fn ssh_endpoint(&self, dir: &MachineDir) -> Result<SshEndpoint, ProviderError>;

    /// A stream to a TCP port of the machine, made as soon as something listens there; waits for events of the
    /// machine (its console, its run directory, its death), not for the clock.
    ///
    /// # Errors
    /// [`ProviderError::Machine`] where nothing listens within `patience` or the machine dies; it carries the
    /// console's end. [`ProviderError::State`] where it does not run.
    async fn connect(
        &self,
        dir: &MachineDir,
        port: u16,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<OwnedFd, ProviderError>;

    /// Attaches to the machine's console.
    ///
    /// # Errors
    /// [`ProviderError::State`] where it does not run.
    async fn console(&self, dir: &MachineDir) -> Result<Console, ProviderError>;
}
