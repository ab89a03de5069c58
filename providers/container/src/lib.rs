//! The container provider: system containers that run the box's own init in namespaces of their own.

mod boot;
mod cgroup;
mod facts;
mod failure;
pub mod keeper;
mod provider;
mod runtime;
mod scope;
mod security;
pub mod supervise;
mod sys;

use std::path::Path;

pub use facts::{Facts, availability, facts};
pub use keeper::{Ended, Keeper, Launched, content, create, keeper_entry, remove_top};
use posada_provider_api::{MachineDir, ProviderError};
pub use provider::ContainerProvider;

/// Undoes what a machine left outside of its directory; nothing where there is nothing. Kills what still runs.
/// Waits for a keeper that is about to end; must not be called while a [`Keeper`] of the machine lives. `exe`
/// is our own binary.
///
/// # Errors
/// [`ProviderError::Host`] where a process does not end or a control group cannot be removed.
pub fn cleanup(exe: &Path, dir: &MachineDir) -> Result<(), ProviderError> {
    Ok(runtime::cleanup(exe, dir)?)
}
