//! Folders of the host seen inside a machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A host folder seen inside a machine. What the machine's login user makes there belongs to the folder's
/// owner on the host, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedFolder {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the machine.
    pub target: PathBuf,
    /// Whether the machine may only read.
    pub read_only: bool,
    /// Whether `source` is made where it does not exist.
    pub create: bool,
}
