//! In place of a supervisor where the monitor does not know the processor: [`crate::Facts`] tells so before one is asked
//! for.

use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden command that would make a process the supervisor of a virtual machine.
pub const ENTRY: &str = "__kvm-supervise";

/// Cannot be one.
pub fn entry(_: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}
