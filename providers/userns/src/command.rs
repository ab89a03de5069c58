//! Running a program as root of the host's id map.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::{HostKind, IdMap, IdMapError};

/// The hidden word by which our binary becomes [`crate::entry`].
pub const ENTRY: &str = "__userns";

/// A command that runs `exe args…` as root of the host's id map, in a mount namespace of its own.
///
/// For root it is just `exe args…`: files that it makes carry the plain ids of the box. For an ordinary user it
/// goes through `exe __userns`, which needs `newuidmap`; exit status and signals pass through, and the program
/// is killed when the process that started it dies. `exe` is our own binary.
///
/// # Errors
/// [`IdMapError`] where the user has no id map.
pub fn command<I, S>(exe: &Path, args: I) -> Result<Command, IdMapError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(exe);
    match IdMap::of_host()?.host {
        HostKind::Privileged { .. } => {}
        HostKind::Subordinate => {
            crate::MapTools::find()?;
            command.arg(ENTRY).arg("--").arg(exe);
        }
    }
    command.args(args);
    Ok(command)
}
