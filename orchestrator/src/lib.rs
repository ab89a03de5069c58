//! From a Vmfile to running, provisioned machines: the plan, the life of a machine, its state on disk.
//!
//! Nothing here prints. What happens is told to an [`EventSink`]; what fails is an [`Error`].

pub mod cancel;
pub mod event;
pub mod host;
pub mod vmfile;

pub use cancel::Cancel;
pub use event::{Event, EventSink};
pub use host::Host;
