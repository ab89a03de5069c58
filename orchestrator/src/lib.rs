//! From a Vmfile to running, provisioned machines: the plan, the life of a machine, its state on disk.
//!
//! Nothing here prints. What happens is told to an [`EventSink`]; what fails is an [`Error`].

mod backends;
mod box_progress;
pub mod cancel;
pub mod doctor;
pub mod error;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
pub mod life;
pub mod lockfile;
mod orchestrator;
pub mod project;
mod session;
mod similar;
mod spec;
pub mod state;
pub mod status;
pub mod vmfile;

pub use cancel::Cancel;
pub use error::{Error, OnMachine};
pub use event::{Event, EventSink};
pub use host::Host;
pub use life::{HaltOptions, PackageOptions, Packaged, Provisioning, UpOptions};
pub use orchestrator::Orchestrator;
pub use project::{Outside, Project};
pub use state::Entry;
pub use status::MachineStatus;
