//! What a command fails with: any error that knows its kind.

use std::fmt;

use posada_provider_api::{Fault, FaultKind};

use crate::exit::{ExitStatus, kind_name};

/// What commands return.
pub type Result<T> = std::result::Result<T, Failure>;

/// An error on its way to the user.
pub struct Failure {
    fault: Box<dyn Fault + Send + Sync>,
    interrupted: Option<ExitStatus>,
}

impl Failure {
    /// The error.
    #[must_use]
    pub fn fault(&self) -> &(dyn Fault + Send + Sync + 'static) {
        &*self.fault
    }

    /// How the process ends because of it.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        self.interrupted.unwrap_or_else(|| ExitStatus::of(self.fault.kind()))
    }

    /// The same, known to come of a signal, by which the process then ends with `status`.
    #[must_use]
    pub fn interrupted_by(mut self, status: Option<ExitStatus>) -> Self {
        self.interrupted = status;
        self
    }

    /// What it is called in JSON lines.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        if self.interrupted.is_some() { "interrupted" } else { kind_name(self.fault.kind()) }
    }
}

impl<E: Fault + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { fault: Box::new(error), interrupted: None }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.fault, f)
    }
}

/// What can go wrong in the command line itself.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The request does not make sense.
    #[error("{message}")]
    Usage {
        /// What does not.
        message: String,
        /// What would.
        hint: Option<String>,
    },
    /// The host lacks or refuses something.
    #[error("{what}")]
    Host {
        /// What happened.
        what: String,
        /// What to do next.
        hint: Option<String>,
        /// What the system said.
        source: Option<std::io::Error>,
    },
    /// The user was asked and said no.
    #[error("nothing was done")]
    Declined,
    /// A question has to be asked and there is no terminal to ask it on.
    #[error("{question} cannot be asked: standard input is not a terminal")]
    NoTerminal {
        /// What would be asked.
        question: String,
        /// How to answer beforehand.
        hint: String,
    },
    /// A check of the host found something that keeps Posada from working.
    #[error("{0}")]
    Unhealthy(String),
    /// A fault of ours.
    #[error("{what}")]
    Internal {
        /// What was being done.
        what: String,
        /// What came of it.
        source: Option<std::io::Error>,
    },
}

impl CliError {
    /// The request does not make sense.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// The host refused `what`.
    pub fn host(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Host { what: what.into(), hint: None, source: Some(source) }
    }

    /// For `map_err`: something that cannot fail on a sound system did.
    pub fn internal(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Internal { what: what.into(), source: Some(source) }
    }
}

impl Fault for CliError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Usage { .. } | Self::Declined | Self::NoTerminal { .. } => FaultKind::User,
            Self::Host { .. } | Self::Unhealthy(_) => FaultKind::Environment,
            Self::Internal { .. } => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } | Self::Host { hint, .. } => hint.clone(),
            Self::NoTerminal { hint, .. } => Some(hint.clone()),
            Self::Declined | Self::Unhealthy(_) | Self::Internal { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_the_last_word_on_the_status() {
        let failure = || Failure::from(CliError::host("cannot read `x`", std::io::Error::other("gone")));
        assert_eq!(failure().exit_status().code(), 4);
        assert_eq!(failure().kind_name(), "environment");
        let interrupted = failure().interrupted_by(Some(ExitStatus::signal(2)));
        assert_eq!(interrupted.exit_status().code(), 130);
        assert_eq!(interrupted.kind_name(), "interrupted");
    }
}
