//! Provisioning over SSH: the keys of a machine, the transport, one file per kind of step, and the ledger of
//! what has succeeded.
//!
//! [`keys::load_or_create`] gives a machine its keys before its first boot; [`Ssh::connect`] logs in over a
//! stream that someone else has connected; [`plan()`] tells which steps are due, [`run_step`] runs one, and
//! [`Ledger::record`] remembers that it succeeded. All of it blocks: call it from a thread that may.

pub mod adopt;
pub mod cancel;
pub mod clean;
pub mod digest;
pub mod error;
pub mod keys;
pub mod ledger;
pub mod output;
pub mod plan;
pub mod quote;
pub mod run;
pub mod settings;
pub mod step;
pub mod transport;

mod copy;
mod shell;
mod write;

pub use adopt::{AdoptError, INSECURE_KEY, INSECURE_USER, adopt};
pub use cancel::{Cancel, StopSignal};
pub use clean::{CleanError, clean, open_to_everybody};
pub use digest::Digest;
pub use error::{StepError, StepFailure};
pub use keys::{KeyError, KeyPair, MachineKeys};
pub use ledger::{Ledger, LedgerError, Record};
pub use output::{OutputSink, OutputStream};
pub use plan::{Decision, PlanError, Planned, RunReason, Selection, SkipReason, plan};
pub use run::{StepDone, run_step, sync};
pub use settings::{Refused, SettingsError, apply};
pub use step::{Action, FileCopy, Place, RunWhen, Script, Shell, Step};
pub use transport::{ExitStatus, Login, Ssh, Stdin, Transport, TransportError};
