//! Looks at the host: what works, what does not, and what to do about it.

mod cgroup;
mod disk;
mod kvm;
mod namespaces;
mod tools;
mod tun;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// Something does not work, machines run without it.
    Warn,
    /// Machines do not run.
    Bad,
}

/// One check and how it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `user namespaces`.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, in a few words.
    pub finding: String,
    /// What to do about it; `None` where nothing is to be done.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, finding: finding.into(), remedy: None }
    }

    fn warn(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, finding: finding.into(), remedy: Some(remedy.into()) }
    }

    fn bad(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, finding: finding.into(), remedy: Some(remedy.into()) }
    }
}

/// Where the host is looked at.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where Posada keeps what it has; need not exist yet.
    pub home: PathBuf,
    /// Directories that programs are looked for in, in the form of `PATH`.
    pub path: OsString,
    /// The root of `proc`, `sys` and `dev`: `/`, save in tests.
    pub root: PathBuf,
}

impl Site {
    /// This host, with Posada's things in `home` and programs in `path`.
    #[must_use]
    pub fn here(home: PathBuf, path: OsString) -> Self {
        Self { home, path, root: PathBuf::from("/") }
    }

    fn read(&self, path: &str) -> Option<String> {
        fs_err::read_to_string(self.at(path)).ok()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Looks at everything. Makes a user namespace to see whether that works, and changes nothing.
#[must_use]
pub fn examine(site: &Site) -> Vec<Check> {
    let mut checks = vec![kvm::check(site)];
    checks.extend(namespaces::checks(&posada_userns::probe()));
    checks.push(namespaces::overlay(site));
    checks.push(cgroup::check(site));
    checks.push(tun::check(site));
    checks.push(disk::check(site));
    checks.extend(tools::checks(site));
    checks
}

/// Whether the device node can be opened for reading and writing.
fn open_device(path: &Path) -> std::io::Result<()> {
    std::fs::File::options().read(true).write(true).open(path).map(drop)
}
