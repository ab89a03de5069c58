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
        if let Some(old) = &planned.supersedes {
            next.succeeded.retain(|r| r != old);
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Action, Decision, RunReason, RunWhen, Script, Shell, Step};

    fn step(text: &str) -> Step {
        let script = Script::Inline(text.to_owned());
        let shell = Shell { script, args: Vec::new(), env: Default::default(), privileged: false };
        let (run, sensitive, place) = (RunWhen::Once, false, Default::default());
        Step { name: None, run, sensitive, action: Action::Shell(shell), place }
    }

    fn record(ledger: &mut Ledger, step: &Step, key: &str) {
        let decision = Decision::Run(RunReason::New);
        let planned = Planned { step, key: key.to_owned(), decision, supersedes: None };
        let done = StepDone { digest: Digest::of(&step.action).unwrap(), took: Duration::from_millis(12) };
        ledger.record(&planned, &done).unwrap();
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.json");
        let mut ledger = Ledger::load(&path).unwrap();
        assert!(ledger.succeeded().is_empty() && !path.exists());
        record(&mut ledger, &step("a"), "shell 1");
        record(&mut ledger, &step("b"), "shell 2");
        assert_eq!(Ledger::load(&path).unwrap(), ledger);
        assert_eq!(ledger.succeeded()[1].took_ms, 12);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the ledger is left");
    }

    #[test]
    fn nothing_of_the_step_but_its_digest_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.json");
        let mut secret = step("echo hunter2");
        if let Action::Shell(shell) = &mut secret.action {
            shell.args.push("hunter2".to_owned());
            shell.env.insert("P".to_owned(), "hunter2".to_owned());
        }
        record(&mut Ledger::load(&path).unwrap(), &secret, "shell 1");
        assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"));
    }

    #[test]
    fn cut_at_any_byte_it_is_told_and_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.json");
        let mut ledger = Ledger::load(&path).unwrap();
        record(&mut ledger, &step("a"), "shell 1");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            match Ledger::load(&path) {
                // Only the last line end may be missing.
                Ok(read) => assert_eq!((read, cut), (ledger.clone(), whole.len() - 1)),
                Err(e) => {
                    assert!(matches!(e, LedgerError::Damaged { .. }), "{e}");
                    assert!(e.hint().unwrap().contains("provision.json"));
                }
            }
        }
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.json");
        let mut ledger = Ledger::load(&path).unwrap();
        record(&mut ledger, &step("a"), "shell 1");
        let old = ledger.clone();
        record(&mut ledger, &step("b"), "shell 2");
        let new = fs::read(&path).unwrap();
        // The state of the directory at every byte of the writing: the old file, and a part of the new one.
        let mut first = Ledger::load(dir.path().join("other.json")).unwrap();
        record(&mut first, &step("a"), "shell 1");
        fs::copy(dir.path().join("other.json"), &path).unwrap();
        for cut in 0..=new.len() {
            fs::write(dir.path().join("provision.json.partial"), &new[..cut]).unwrap();
            let read = Ledger::load(&path).unwrap();
            assert_eq!(read.succeeded()[0].digest, old.succeeded()[0].digest);
            assert_eq!(read.succeeded().len(), 1);
        }
        let mut read = Ledger::load(&path).unwrap();
        record(&mut read, &step("b"), "shell 2");
        assert_eq!(Ledger::load(&path).unwrap().succeeded().len(), 2);
    }

    #[test]
    fn a_newer_form_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.json");
        fs::write(&path, r#"{"version": 2, "entries": []}"#).unwrap();
        assert!(matches!(Ledger::load(&path), Err(LedgerError::Version { found: 2, .. })));
    }

    #[test]
    fn what_cannot_be_written_is_not_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/provision.json");
        let mut ledger = Ledger::load(&path).unwrap();
        let a = step("a");
        let planned = Planned {
            step: &a,
            key: "shell 1".to_owned(),
            decision: Decision::Run(RunReason::New),
            supersedes: None,
        };
        let done = StepDone { digest: Digest::of(&a.action).unwrap(), took: Duration::ZERO };
        assert!(matches!(ledger.record(&planned, &done), Err(LedgerError::Io { what: "written", .. })));
        assert!(ledger.succeeded().is_empty());
    }
}
