//! What a machine is told by files: its name, its network, its keys, its environment. Written by the container
//! itself within its own root, at every start, and only where something differs.

mod environment;
mod file;
mod logins;
mod names;
mod passwd;
mod ssh;

pub use names::machine_id;
use posada_provider_api::MachineSpec;

use crate::failure::Failure;

/// Writes all of them; returns what could not be written as asked.
///
/// # Errors
/// [`Failure::Box`] where the box lacks sshd or the login user; [`Failure`] where a file cannot be written.
pub fn write_all(spec: &MachineSpec) -> Result<Vec<String>, Failure> {
    let user = passwd::login_user(&spec.access.user)?;
    names::write(spec)?;
    logins::allow()?;
    ssh::write(&spec.access, &user)?;
    environment::write(&spec.env)
}
