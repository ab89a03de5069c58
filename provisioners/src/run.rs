//! Running one step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::transport::{Stdin, capture};
use crate::{Action, OutputSink, Step, StepError, StepFailure, Transport, TransportError, copy, shell};

/// A step that has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDone {
    /// Digest of what ran.
    pub digest: Digest,
    /// How long it took.
    pub took: Duration,
}

/// Runs `step`, with `env` as the environment below its own, and passes its output on as it comes. The output
/// of a sensitive step is withheld altogether: no filter knows every form a secret can be printed in.
///
/// # Errors
/// [`StepFailure::Failed`] where the step says so; the others where it could not be
/// run.
pub fn run_step(
    step: &Step,
    transport: &mut dyn Transport,
    env: &BTreeMap<String, String>,
    sink: &dyn OutputSink,
) -> Result<StepDone, StepError> {
    let began = Instant::now();
    let digest = match &step.action {
        Action::Shell(script) => shell::run(step, script, transport, env, sink)?,
        Action::File(copy) => copy::run(step, copy, transport)?,
    };
    Ok(StepDone { digest, took: began.elapsed() })
}

/// Has the machine write to its disk what `step` left in its memory, as a step that a power cut undoes was not done.
///
/// # Errors
/// [`StepFailure::Unsynced`] where the machine cannot, [`StepFailure::Transport`] where it could not be asked.
pub fn sync(step: &Step, transport: &mut dyn Transport) -> Result<(), StepError> {
    let asked = capture(transport, "sync", Stdin::Empty).map_err(|error| step.transport_error(error))?;
    if asked.status.success() {
        return Ok(());
    }
    Err(StepError::new(step, StepFailure::Unsynced(asked.err.trim().to_owned())))
}

impl Step {
    /// What it is called when people are told of it: ``step `nginx` ``, `shell step`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("step `{name}`"),
            None => format!("{} step", self.kind()),
        }
    }

    /// `shell` or `file`: the word the Vmfile uses.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.action {
            Action::Shell(_) => "shell",
            Action::File(_) => "file",
        }
    }

    pub(crate) fn transport_error(&self, source: TransportError) -> StepError {
        StepError::new(self, StepFailure::Transport(source))
    }
}
