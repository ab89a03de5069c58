//! What the worker tells: one JSON object a line on its standard output.

use serde::{Deserialize, Serialize};

use crate::unpack::{Refusal, Unpacked};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// This many more bytes of the archive were read.
    Read(u64),
    /// It is done.
    Unpacked(Unpacked),
    /// It cannot be done.
    Refused(Refusal),
}

/// Words after [`super::WORKER`] that choose what is done.
pub mod job {
    /// Unpacks standard input into the current directory.
    pub const UNPACK: &str = "unpack";
    /// Deletes the named directories of the current directory.
    pub const DELETE: &str = "delete";
    /// Becomes another program, which is terminated when the process that started it dies.
    pub const RUN: &str = "run";
}
