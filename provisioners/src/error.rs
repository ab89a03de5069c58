//! Why a step did not succeed.

use std::io;
use std::path::PathBuf;

use posada_provider_api::{Fault, FaultKind};

use crate::{ExitStatus, Place, TransportError};

/// Why a step did not succeed. Nothing in it shows the text, arguments, environment or output of a sensitive
/// step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The step ran, and said that it failed.
    #[error("{step} ({place}) ended with {status}")]
    Failed {
        /// The step: ``step `nginx` ``.
        step: String,
        /// Where it stands.
        place: Place,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed, at most 20, oldest first; none where it is sensitive.
        last_lines: Vec<String>,
        /// Whether its output was withheld.
        withheld: bool,
    },
    /// A file of this host that it needs cannot be read.
    #[error("{step} ({place}) needs `{path}`, which cannot be read")]
    Source {
        /// The step.
        step: String,
        /// Where it stands.
        place: Place,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be run as it is written.
    #[error("{step} ({place}) cannot be run: {what}")]
    Invalid {
        /// The step.
        step: String,
        /// Where it stands.
        place: Place,
        /// What is wrong with it.
        what: String,
    },
    /// It is to run as root, and the login user cannot become root.
    #[error("{step} ({place}) is privileged, and {why}")]
    Privilege {
        /// The step.
        step: String,
        /// Where it stands.
        place: Place,
        /// What stands against it.
        why: &'static str,
    },
    /// The machine could not take the script.
    #[error("{step} ({place}) cannot be put into the machine: {why}")]
    Stage {
        /// The step.
        step: String,
        /// Where it stands.
        place: Place,
        /// What the machine says.
        why: String,
    },
    /// The machine could not be worked with.
    #[error("{step} ({place}) did not finish")]
    Transport {
        /// The step.
        step: String,
        /// Where it stands.
        place: Place,
        /// Why.
        source: TransportError,
    },
}

impl StepError {
    /// The last lines the step printed, oldest first.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Failed { last_lines, .. } => last_lines,
            _ => &[],
        }
    }

    /// Where the step stands in its Vmfile.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Failed { place, .. }
            | Self::Source { place, .. }
            | Self::Invalid { place, .. }
            | Self::Privilege { place, .. }
            | Self::Stage { place, .. }
            | Self::Transport { place, .. } => place,
        }
    }

    /// Whether it was cancelled from our side.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Transport { source: TransportError::Interrupted, .. })
    }
}

impl Fault for StepError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Failed { .. } | Self::Stage { .. } | Self::Privilege { .. } => FaultKind::Provision,
            Self::Source { .. } | Self::Invalid { .. } => FaultKind::Config,
            Self::Transport { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let again = "the next `posada up` or `posada provision` goes on with this step";
        let text = match self {
            Self::Failed { withheld: true, .. } => {
                format!("its output is withheld because it is sensitive; {again}")
            }
            Self::Failed { status: ExitStatus::Code(127), .. } => {
                format!("127 mostly means that a command was not found in the machine; {again}")
            }
            Self::Failed { .. } => again.to_owned(),
            Self::Source { .. } => "correct the path, or make the file".to_owned(),
            Self::Invalid { .. } => "correct the step in the Vmfile".to_owned(),
            Self::Privilege { .. } => {
                "let the box's login user use sudo without a password (`USER ALL=(ALL) NOPASSWD: ALL` in \
                 /etc/sudoers.d), set `ssh.user: root`, or set `privileged: false`"
                    .to_owned()
            }
            Self::Stage { .. } => {
                format!("the machine's /tmp must be writable and have room; {again}")
            }
            Self::Transport { source, .. } => return source.hint().or_else(|| Some(again.to_owned())),
        };
        Some(text)
    }
}
