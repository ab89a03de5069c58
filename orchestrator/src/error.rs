//! What can go wrong between a Vmfile and its machines.

use std::fmt;
use std::io;
use std::path::PathBuf;

use posada_box_catalog::BoxError;
use posada_network::private::leases::LeaseError;
use posada_provider_api::{Fault, FaultKind, MachineName, MachineState, ProviderError};
use posada_provisioners::{
    AdoptError, CleanError, KeyError, LedgerError, PlanError, SettingsError, StepError, TransportError,
};

use crate::vmfile::Faults;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Vmfile has faults; all of them are here.
    #[error(transparent)]
    Vmfile(Faults),
    /// There is no Vmfile.
    #[error("no Vmfile in {start} or any directory above it", start = start.display())]
    NoVmfile {
        /// Where the search began.
        start: PathBuf,
    },
    /// The project has no such machine.
    #[error("there is no machine `{name}`")]
    UnknownMachine {
        /// The name as it was given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// One machine must be named and none or several could be meant.
    #[error("which machine? There are {}", known.join(", "))]
    WhichMachine {
        /// The names there are.
        known: Vec<String>,
    },
    /// The machine was never made.
    #[error("{machine} has not been created")]
    NotCreated {
        /// Which machine.
        machine: MachineName,
    },
    /// No backend can be used here.
    #[error("no provider can run {machine} here: {}", reasons.join("; "))]
    NoProvider {
        /// Which machine.
        machine: MachineName,
        /// Why not, a reason a backend.
        reasons: Vec<String>,
        /// What would help.
        remedies: Vec<String>,
    },
    /// The machine lives on another backend than asked for.
    #[error("{machine} was made on the {is} provider and cannot move to {asked}")]
    OtherProvider {
        /// Which machine.
        machine: MachineName,
        /// Where it lives.
        is: posada_provider_api::ProviderKind,
        /// Where it was wanted.
        asked: posada_provider_api::ProviderKind,
    },
    /// A box is missing or damaged.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// The box a machine was made from is no longer there.
    #[error("{machine} was made from {name} {version}, which is no longer in the store")]
    BoxGone {
        /// Which machine.
        machine: MachineName,
        /// The box.
        name: String,
        /// Its version.
        version: String,
    },
    /// A backend failed.
    #[error(transparent)]
    Provider(Box<OnMachine<ProviderError>>),
    /// A private network has no address for the machine.
    #[error(transparent)]
    Address(Box<OnMachine<LeaseError>>),
    /// SSH failed.
    #[error(transparent)]
    Ssh(Box<OnMachine<TransportError>>),
    /// A machine whose box everybody can log into was not given its own keys.
    #[error(transparent)]
    Adopt(Box<OnMachine<AdoptError>>),
    /// A machine did not take its settings.
    #[error(transparent)]
    Settings(Box<OnMachine<SettingsError>>),
    /// A machine could not be cleaned for a box.
    #[error(transparent)]
    Clean(Box<OnMachine<CleanError>>),
    /// The machine's keys cannot be read or made.
    #[error(transparent)]
    Keys(Box<OnMachine<KeyError>>),
    /// A provisioning step failed.
    #[error(transparent)]
    Step(Box<OnMachine<StepError>>),
    /// There is no plan for provisioning.
    #[error(transparent)]
    Plan(Box<OnMachine<PlanError>>),
    /// The record of provisioning cannot be read or written.
    #[error(transparent)]
    Ledger(Box<OnMachine<LedgerError>>),
    /// The machine does not become healthy.
    #[error("{machine} is up but not healthy after {seconds} s: {last}")]
    Unhealthy {
        /// Which machine.
        machine: MachineName,
        /// How long it was given.
        seconds: u64,
        /// What the last probe said.
        last: String,
    },
    /// A machine it depends on did not come up.
    #[error("{machine} was not started: {on}, which it depends on, did not come up")]
    Dependency {
        /// Which machine.
        machine: MachineName,
        /// Which one it needs.
        on: MachineName,
    },
    /// The user stopped the operation.
    #[error("interrupted; {machine} is {state}")]
    Interrupted {
        /// Which machine.
        machine: MachineName,
        /// What it is now.
        state: MachineState,
    },
    /// The user stopped the operation before it touched a machine.
    #[error("interrupted")]
    Cancelled,
    /// A state file is damaged.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// The project directory is not where it was.
    #[error("the project directory {path} is gone", path = path.display())]
    ProjectGone {
        /// Where it was.
        path: PathBuf,
    },
    /// The lock file cannot be understood.
    #[error("{path} is wrong: {what}", path = path.display())]
    LockFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The lock file was to be kept to, and there is none.
    #[error("there is no {path}", path = path.display())]
    NoLockFile {
        /// Where it would be.
        path: PathBuf,
    },
    /// The lock file was to be kept to, and something is not what it says.
    #[error("{path} says something else: {}", differ.join("; "), path = path.display())]
    Drift {
        /// The lock file.
        path: PathBuf,
        /// What differs.
        differ: Vec<String>,
    },
    /// The host refused something.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the host said; names the path.
        source: io::Error,
    },
    /// Several machines failed.
    #[error("{} machines failed", .0.len())]
    Several(Vec<Error>),
}

impl Error {
    /// For `map_err`: an [`Error::Io`] that says what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.to_owned(), source }
    }

    /// For `map_err`: an [`Error::Provider`] of this machine.
    pub(crate) fn provider(machine: &MachineName) -> impl FnOnce(ProviderError) -> Self {
        let machine = machine.clone();
        move |mut error| {
            let console = match &mut error {
                ProviderError::Machine { console, .. } => std::mem::take(console),
                _ => Vec::new(),
            };
            Self::Provider(Box::new(OnMachine { machine, error, console }))
        }
    }

    /// One error of many; `Ok` for none.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// The console's last lines, where the error came from a machine that has some.
    #[must_use]
    pub fn console(&self) -> &[String] {
        match self {
            Self::Provider(on) => &on.console,
            Self::Ssh(on) => &on.console,
            _ => &[],
        }
    }
}

/// An error and the machine it happened to.
#[derive(Debug)]
pub struct OnMachine<E> {
    /// Which machine.
    pub machine: MachineName,
    /// What happened.
    pub error: E,
    /// The last lines of its console, oldest first, where they may tell why.
    pub console: Vec<String>,
}

impl<E> OnMachine<E> {
    /// For `map_err`: this error happened to `machine`.
    pub(crate) fn new(machine: &MachineName) -> impl FnOnce(E) -> Box<Self> {
        let machine = machine.clone();
        move |error| Box::new(Self { machine, error, console: Vec::new() })
    }
}

impl<E: fmt::Display> fmt::Display for OnMachine<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.machine, self.error)
    }
}

impl<E: std::error::Error> std::error::Error for OnMachine<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Fault for Error {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Vmfile(_)
            | Self::NoVmfile { .. }
            | Self::LockFile { .. }
            | Self::NoLockFile { .. }
            | Self::Drift { .. } => FaultKind::Config,
            Self::UnknownMachine { .. }
            | Self::WhichMachine { .. }
            | Self::NotCreated { .. }
            | Self::OtherProvider { .. }
            | Self::Interrupted { .. }
            | Self::Cancelled => FaultKind::User,
            Self::Plan(on) => on.error.kind(),
            Self::NoProvider { .. } | Self::Io { .. } | Self::Damaged { .. } | Self::ProjectGone { .. } => {
                FaultKind::Environment
            }
            Self::Box(error) => error.kind(),
            Self::BoxGone { .. } => FaultKind::Box,
            Self::Provider(on) => on.error.kind(),
            Self::Ssh(on) => on.error.kind(),
            Self::Adopt(on) => on.error.kind(),
            Self::Settings(on) => on.error.kind(),
            Self::Clean(on) => on.error.kind(),
            Self::Step(on) => on.error.kind(),
            Self::Keys(on) => on.error.kind(),
            Self::Address(on) => on.error.kind(),
            Self::Ledger(on) => on.error.kind(),
            Self::Unhealthy { .. } => FaultKind::Machine,
            // What it depends on says why.
            Self::Dependency { .. } => FaultKind::Machine,
            Self::Several(errors) => errors.first().map_or(FaultKind::Internal, Fault::kind),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Vmfile(faults) => faults.hint(),
            Self::NoVmfile { .. } => {
                Some("make one with `posada init`, or go to a project that has one".to_owned())
            }
            Self::UnknownMachine { name, known } => {
                Some(match crate::similar::nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "there are none yet; `posada up` makes them".to_owned(),
                    None => format!("there are: {}", known.join(", ")),
                })
            }
            Self::WhichMachine { known } => known.first().map(|name| format!("name it: `… {name}`")),
            Self::NotCreated { machine } => Some(format!("make it with `posada up {machine}`")),
            Self::NoProvider { remedies, .. } => {
                Some(format!("{}; `posada doctor` tells more", remedies.join(", or ")))
            }
            Self::OtherProvider { machine, .. } => {
                Some(format!("`posada destroy {machine}` first, or leave its provider as it is"))
            }
            Self::Box(error) => error.hint(),
            Self::BoxGone { machine, name, .. } => Some(format!(
                "add the same box again (`posada box add`), or `posada destroy {machine}` and `posada up` to make it from another {name}"
            )),
            Self::Provider(on) => on.error.hint(),
            Self::Ssh(on) => on.error.hint(),
            Self::Adopt(on) => on.error.hint(),
            Self::Settings(on) => on.error.hint(),
            Self::Clean(on) => on.error.hint(),
            Self::Step(on) => on.error.hint(),
            Self::Keys(on) => on.error.hint(),
            Self::Address(on) => on.error.hint(),
            Self::Plan(on) => on.error.hint(),
            Self::Ledger(on) => on.error.hint(),
            Self::Unhealthy { machine, .. } => {
                Some(format!("look into it with `posada ssh {machine}`; `posada up` tries again"))
            }
            Self::Interrupted { machine, state: MachineState::Running | MachineState::Suspended } => {
                Some(format!("`posada up {machine}` goes on from here, `posada halt {machine}` stops it"))
            }
            Self::Interrupted { machine, .. } => Some(format!("`posada up {machine}` goes on from here")),
            Self::Damaged { path, .. } => Some(format!(
                "`posada destroy -f --id {}` removes the machine it belongs to",
                path.parent().and_then(|dir| dir.file_name()).unwrap_or_default().to_string_lossy()
            )),
            Self::ProjectGone { .. } => Some(
                "`posada global-status` shows its machines, `posada destroy --id` removes them".to_owned(),
            ),
            Self::LockFile { .. } => Some(
                "take it from version control again, or remove it: the next `posada up` writes a new one".to_owned(),
            ),
            Self::NoLockFile { .. } => {
                Some("`posada up` without `--locked` writes it; it belongs into version control".to_owned())
            }
            Self::Drift { .. } => Some(
                "`posada up` without `--locked` takes scripts as they are now, `posada box update` moves boxes; what machines \
                 are made from changes when they are destroyed and made again"
                    .to_owned(),
            ),
            Self::Io { source, .. } => io_hint(source),
            Self::Dependency { .. } | Self::Cancelled | Self::Several(_) => None,
        }
    }
}

fn io_hint(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room: `posada box list` and `posada global-status` show what Posada keeps".to_owned())
        }
        io::ErrorKind::PermissionDenied => {
            Some("see who owns the path; was posada once run with sudo?".to_owned())
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("set POSADA_HOME to a place that can be written".to_owned())
        }
        _ => None,
    }
}
