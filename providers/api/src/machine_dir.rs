//! Where a machine keeps what is its own. One directory a machine; names of the files in it are decided here.

use std::path::{Path, PathBuf};

/// The directory of one machine.
///
/// ```text
/// machine.json     who it is: project, name, box          (orchestrator)
/// spec.json        the MachineSpec it runs with            (orchestrator)
/// lock             held (flock) by the posada that works on it; says who that is
/// ssh/             its key, its host key, known_hosts
/// ssh/adopted.json that the insecure key of its box was replaced; true of `top/` as it is
/// provision.json   which steps have succeeded; true of `top/` as it is
/// alive            held (flock) by its supervisor as long as it runs
/// runtime.json     what the supervisor made outside of itself, written before it is made
/// control.sock     the supervisor's control socket
/// console.log      what the machine's console printed; bounded
/// supervisor.log   what the supervisor has to say
/// top/             the writable layer; owned by the provider
/// packing/         a machine over this one's disk, in which it is cleaned to be made a box; ended with whoever made it
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDir(PathBuf);

impl MachineDir {
    /// The directory at an absolute `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the private networks of this user's machines meet: `networks/`, beside the directory of all machines.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.0.join("../../networks")
    }

    /// `machine.json`.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("machine.json")
    }

    /// `spec.json`.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// `lock`.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// `ssh/`.
    #[must_use]
    pub fn ssh(&self) -> PathBuf {
        self.0.join("ssh")
    }

    /// `ssh/adopted.json`.
    #[must_use]
    pub fn adopted(&self) -> PathBuf {
        self.ssh().join("adopted.json")
    }

    /// `provision.json`.
    #[must_use]
    pub fn provision(&self) -> PathBuf {
        self.0.join("provision.json")
    }

    /// `alive`.
    #[must_use]
    pub fn alive(&self) -> PathBuf {
        self.0.join("alive")
    }

    /// `runtime.json`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.0.join("runtime.json")
    }

    /// `control.sock`.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// `console.log`.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// `supervisor.log`.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    /// `packing/`.
    #[must_use]
    pub fn packing(&self) -> Self {
        Self(self.0.join("packing"))
    }

    /// `top/`.
    #[must_use]
    pub fn top(&self) -> PathBuf {
        self.0.join("top")
    }
}
