//! Provisioning over SSH: the transport, the keys, one file per kind of step, and the ledger of what has succeeded.

pub mod step;

pub use step::{Action, FileCopy, Place, RunWhen, Script, Shell, Step};
