//! What the orchestrator has to be told of the host and the user: libraries look up neither.

use std::path::PathBuf;

/// The host, as the command line found it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where Posada keeps all it has (`POSADA_HOME`); absolute. Made on first use, mode 0700.
    pub home: PathBuf,
    /// How this binary can be executed again: `/proc/self/exe`.
    pub exe: PathBuf,
    /// The words of the running command, for those who wait for it: `posada up`.
    pub command: String,
    /// How boxes are fetched that are not in the store.
    pub remotes: posada_box_catalog::Remotes,
}

impl Host {
    /// Where boxes are kept.
    #[must_use]
    pub fn boxes(&self) -> PathBuf {
        self.home.join("boxes")
    }

    /// Where machines are kept.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.home.join("machines")
    }
}
