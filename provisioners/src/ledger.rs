//! What has succeeded in a machine: `provision.json`.
//!
//! A step is written down after it has succeeded, whole and on disk, so a crash costs at most that one step.
//! The ledger also keeps the step that failed last, so that the next run can say that it resumes there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posada_provider_api::{Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::{Digest, Planned, StepDone, write};

/// The form of the file that this Posada writes and reads.
const VERSION: u32 = 1;

/// One step that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What the step was known by: its name, or its place in the list and its kind.
    pub key: String,
    /// What ran.
    pub digest: Digest,
    /// When it ended, seconds since 1970.
    pub finished_at: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// The step that failed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What the step was known by.
    pub key: String,
    /// When it failed, seconds since 1970.
    pub at: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    succeeded: Vec<Record>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Failure>,
}

/// The ledger of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read or written.
    #[error("the ledger of provisioning cannot be {what}")]
    Io {
        /// `read` or `written`.
        what: &'static str,
        /// Why; names the file.
        source: io::Error,
    },
    /// It is not what Posada wrote.
    #[error("the ledger of provisioning `{}` is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        source: serde_json::Error,
    },
    /// Another Posada wrote it.
    #[error("the ledger of provisioning `{}` has version {found}, this Posada knows {VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Fault for LedgerError {
    fn kind(&self) -> FaultKind {
        FaultKind::Environment
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => {
                "check the rights of the machine's directory, and the space on its disk".to_owned()
            }
            Self::Damaged { path, .. } => format!(
                "which steps have succeeded is not known any more; remove `{}` to let all of them run again at the \
                 next `posada provision`",
                path.display()
            ),
            Self::Version { .. } => "use the newer Posada that wrote it".to_owned(),
        })
    }
}

impl Ledger {
    /// Reads the ledger at `path`; a file that does not exist is one where nothing has succeeded.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] and [`LedgerError::Version`]: what cannot be read is never taken for empty,
    /// or every step would silently run again.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let path = path.into();
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, file: File { version: VERSION, ..File::default() } });
            }
            Err(source) => return Err(LedgerError::Io { what: "read", source }),
        };
        /// A newer form is told apart before its fields are looked at.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |source| LedgerError::Damaged { path: path.clone(), source };
        let Versioned { version: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if found != VERSION {
            return Err(LedgerError::Version { path, found });
        }
        let file = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Self { path, file })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The steps that have succeeded, in the order they did.
    #[must_use]
    pub fn succeeded(&self) -> &[Record] {
        &self.file.succeeded
    }

    /// The step that failed last, where none has succeeded since under its name.
    #[must_use]
    pub fn failed(&self) -> Option<&Failure> {
        self.file.failed.as_ref()
    }

    /// Writes down that a planned step has succeeded.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; nothing is recorded then.
    pub fn record(&mut self, planned: &Planned<'_>, done: &StepDone) -> Result<(), LedgerError> {
        let mut next = self.file.clone();
        // What this step replaces must not count any more: were it restored by a later edit, it would have to
        // run again.
        if let Some(old) = planned.supersedes {
            next.succeeded.retain(|r| !(r.key == planned.key && r.digest == old));
        }
        next.succeeded.retain(|r| !(r.key == planned.key && r.digest == done.digest));
        next.succeeded.push(Record {
            key: planned.key.clone(),
            digest: done.digest,
            finished_at: now(),
            took_ms: millis(done.took),
        });
        if next.failed.as_ref().is_some_and(|f| f.key == planned.key) {
            next.failed = None;
        }
        self.save(next)
    }

    /// Writes down that a planned step has failed.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn record_failure(&mut self, planned: &Planned<'_>) -> Result<(), LedgerError> {
        let mut next = self.file.clone();
        next.failed = Some(Failure { key: planned.key.clone(), at: now() });
        self.save(next)
    }

    fn save(&mut self, next: File) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::Io { what: "written", source };
        let mut text = serde_json::to_vec_pretty(&next).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        write::whole(&self.path, &text, 0o600).map_err(failed)?;
        self.file = next;
        Ok(())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
