//! A provisioning step as a Vmfile describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One provisioning step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A name for people, and for `posada provision --provision-with`.
    pub name: Option<String>,
    /// When it runs.
    pub run: RunWhen,
    /// Whether its text, arguments and environment stay out of output and logs.
    pub sensitive: bool,
    /// What it does.
    pub action: Action,
    /// Where it stands in its Vmfile.
    pub place: Place,
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunWhen {
    /// Until it has succeeded; again when it was edited.
    #[default]
    Once,
    /// At every `up` and `provision`.
    Always,
    /// Only when named by `--provision-with`.
    Never,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a script.
    Shell(Shell),
    /// Copies a file or a directory into the machine.
    File(FileCopy),
}

/// A script to run in the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// The script.
    pub script: Script,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides that of the login session.
    pub env: BTreeMap<String, String>,
    /// Whether it runs as root.
    pub privileged: bool,
}

/// Where a script comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// The text itself. Without `#!` it is run by the machine's `bash`, or `sh` where there is none.
    Inline(String),
    /// A file on the host; absolute.
    Path(PathBuf),
}

/// A copy from host to machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCopy {
    /// File or directory on the host; absolute.
    pub source: PathBuf,
    /// Path in the machine; `~/` is the login user's home.
    pub destination: String,
}

/// A place in a text file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
