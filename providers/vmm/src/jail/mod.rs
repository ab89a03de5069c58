//! Confinement of the process that runs a machine: what a guest could make of a fault in a device is bounded by what
//! the kernel still lets this process do.
//!
//! | Layer | What it takes away |
//! |---|---|
//! | capabilities | all that were not handed over |
//! | `no_new_privs` | gaining any by executing a file |
//! | Landlock | every file that is not the machine's own (where the kernel has it) |
//! | seccomp, whole process | executing programs, tracing, mounting, namespaces, modules, … |
//! | seccomp, each thread | all calls that its [`ThreadKind`] has no use for |
//!
//! A call that a filter forbids kills the process: nothing that works ever makes one.

mod calls;
mod capabilities;
mod error;
mod files;
mod filters;
mod spawner;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub use error::JailError;
pub use files::{Access, Place};

use crate::worker::ThreadKind;
use filters::Filters;
use spawner::Spawner;

/// The jail of this process, once it is in one.
static JAIL: OnceLock<Jail> = OnceLock::new();

struct Jail {
    filters: Filters,
    spawner: Spawner,
}

/// What is left to the process.
#[derive(Debug, Default)]
pub struct Rules {
    /// The files it may reach, and how.
    pub places: Vec<Place>,
    /// The capabilities it keeps, by name, where it has them: `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
}

/// What could not be taken away, as the kernel has no means for it; for people.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Gaps(pub Vec<String>);

/// Confines the calling process for good. To be called once, before it has a second thread; threads it starts later
/// are confined with it.
///
/// # Errors
/// [`JailError`]; the process is then to end.
pub fn enter(rules: &Rules) -> Result<Gaps, JailError> {
    let filters = Filters::compile()?;
    // Read from `/proc` at the first question, and remembered: threads that may open nothing ask too.
    let _ = rustix::param::page_size();
    let places = files::pin(&rules.places);
    capabilities::keep_only(&rules.capabilities)?;
    let gaps = files::restrict(places)?;
    filters.confine_process()?;
    // Threads that are started by a confined one would be confined by its filter besides their own. This one starts
    // them for all, and is confined by the process's alone.
    let spawner = Spawner::start().map_err(JailError::Thread)?;
    JAIL.set(Jail { filters, spawner }).map_err(|_| JailError::Twice)?;
    Ok(gaps)
}

/// Starts a thread of this kind, confined where the process is.
///
/// # Errors
/// Where the thread cannot be had.
pub fn spawn(
    kind: ThreadKind,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    match JAIL.get() {
        None => builder.spawn(work),
        Some(jail) => jail.spawner.spawn(
            builder,
            Box::new(move || {
                jail.filters.confine_thread(kind);
                work();
            }),
        ),
    }
}
