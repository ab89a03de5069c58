//! Why a step did not succeed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use posada_provider_api::{Fault, FaultKind};

use crate::{Action, ExitStatus, Place, Step, TransportError};

/// A step that did not succeed. Nothing in it shows the text, arguments, environment or output of a sensitive
/// step.
#[derive(Debug)]
pub struct StepError {
    /// The step: ``step `nginx` ``, `shell step`.
    pub step: String,
    /// Where it stands in its Vmfile.
    pub place: Place,
    /// Why.
    pub cause: Box<StepFailure>,
}

/// Why a step did not succeed. The message goes on after the step's name and place.
#[derive(Debug, thiserror::Error)]
pub enum StepFailure {
    /// The step ran, and said that it failed.
    #[error("ended with {status}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed, at most 20, oldest first; none where it is sensitive.
        last_lines: Vec<String>,
        /// Whether its output was withheld.
        withheld: bool,
    },
    /// A file of this host that it needs cannot be read.
    #[error("needs `{}`, which cannot be read", .path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be run as it is written.
    #[error("cannot be run: {0}")]
    Invalid(String),
    /// It is to run as root, and the login user cannot become root; why.
    #[error("is privileged, and {0}")]
    Privilege(&'static str),
    /// The machine could not take the script; what it says.
    #[error("cannot be put into the machine: {0}")]
    Stage(String),
    /// What it did is not safely on the machine's disk; what the machine says.
    #[error("was done and is not on the machine's disk: {0}")]
    Unsynced(String),
    /// The machine could not be worked with.
    #[error("did not finish")]
    Transport(#[source] TransportError),
}

impl StepError {
    pub(crate) fn new(step: &Step, cause: StepFailure) -> Self {
        Self { step: step.label(), place: step.place.clone(), cause: Box::new(cause) }
    }

    /// A file of the step cannot be read.
    #[must_use]
    pub fn unreadable(step: &Step, source: std::io::Error) -> Self {
        let path = match &step.action {
            Action::File(copy) => copy.source.clone(),
            Action::Shell(shell) => shell.script.file(step).to_owned(),
        };
        Self::new(step, StepFailure::Source { path, source })
    }

    /// The last lines the step printed, oldest first.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        match &*self.cause {
            StepFailure::Failed { last_lines, .. } => last_lines,
            _ => &[],
        }
    }

    /// How the step ended, where it ran to its end.
    #[must_use]
    pub fn status(&self) -> Option<&ExitStatus> {
        match &*self.cause {
            StepFailure::Failed { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether it was cancelled from our side.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(*self.cause, StepFailure::Transport(TransportError::Interrupted))
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.step, self.place, self.cause)
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The failure itself is part of the message.
        self.cause.source()
    }
}

impl Fault for StepError {
    fn kind(&self) -> FaultKind {
        match &*self.cause {
            StepFailure::Failed { .. }
            | StepFailure::Stage(_)
            | StepFailure::Unsynced(_)
            | StepFailure::Privilege(_) => FaultKind::Provision,
            StepFailure::Source { .. } | StepFailure::Invalid(_) => FaultKind::Config,
            StepFailure::Transport(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let again = "the next `posada up` or `posada provision` goes on with this step";
        let text = match &*self.cause {
            StepFailure::Failed { withheld: true, .. } => {
                format!("its output is withheld because it is sensitive; {again}")
            }
            StepFailure::Failed { status: ExitStatus::Code(127), .. } => {
                format!("127 mostly means that a command was not found in the machine; {again}")
            }
            StepFailure::Failed { .. } => again.to_owned(),
            StepFailure::Source { .. } => "correct the path, or make the file".to_owned(),
            StepFailure::Invalid(_) => "correct the step in the Vmfile".to_owned(),
            StepFailure::Privilege(_) => {
                "let the box's login user use sudo without a password (`USER ALL=(ALL) NOPASSWD: ALL` in \
                 /etc/sudoers.d), set `ssh.user: root`, or set `privileged: false`"
                    .to_owned()
            }
            StepFailure::Stage(_) => format!("the machine's /tmp must be writable and have room; {again}"),
            StepFailure::Unsynced(_) => format!("look at the machine's disk and its kernel's log; {again}"),
            StepFailure::Transport(source) => return source.hint().or_else(|| Some(again.to_owned())),
        };
        Some(text)
    }
}
