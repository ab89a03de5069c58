//! What the commands that change machines have in common.

use std::future::Future;
use std::sync::Arc;

use posada_orchestrator::vmfile::Vmfile;
use posada_orchestrator::{Cancel, Error, Host, Orchestrator, Outside, Project};

use crate::commands::common::ParamArgs;
use crate::context::{Context, env, params};
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::servers::{ClientArgs, remotes};

/// What the first Ctrl-C is answered with.
pub const STOPPING: &str = "stopping cleanly; Ctrl-C again stops at once";

/// An orchestrator that tells the printer what it does, and the wish to stop it.
///
/// # Errors
/// Those of [`Orchestrator::open`].
pub fn orchestrator(context: &Context) -> Result<(Orchestrator, Cancel)> {
    open(context, context.host.clone())
}

/// The same, which fetches boxes that are not in the store from where the user's settings say.
///
/// # Errors
/// Those of [`Orchestrator::open`] and [`remotes`].
pub fn fetching_orchestrator(context: &Context) -> Result<(Orchestrator, Cancel)> {
    let remotes = remotes(&context.host.home, &ClientArgs::of_environment())?;
    open(context, Host { remotes, ..context.host.clone() })
}

fn open(context: &Context, host: Host) -> Result<(Orchestrator, Cancel)> {
    let cancel = Cancel::new();
    let sink = Arc::new(context.printer.clone());
    Ok((Orchestrator::open(host, sink, cancel.clone())?, cancel))
}

/// Runs an operation to its end, or to where Ctrl-C lets it end cleanly.
///
/// # Errors
/// Those of the operation; one that comes after a signal ends the process as that signal does.
pub fn run<T>(
    context: &Context,
    cancel: &Cancel,
    work: impl Future<Output = std::result::Result<T, Error>>,
) -> Result<T> {
    let wish = cancel.clone();
    let interrupt = Interrupt::listen(&context.printer, Some(STOPPING), move |_| wish.cancel())?;
    context.block_on(work)?.map_err(|error| Failure::from(error).interrupted_by(interrupt.exit_status()))
}

/// The project and what its Vmfile says.
///
/// # Errors
/// Those of [`Project::find`] and [`Project::load`].
pub fn load(context: &Context, given: &ParamArgs) -> Result<(Project, Vmfile)> {
    let project = context.project()?;
    let outside = Outside { params: params(&given.param)?, env: &env, home: context.home_dir.clone() };
    let vmfile = project.load(&outside)?;
    context.printer.expect_machines(vmfile.names().map(|name| name.as_str()));
    Ok((project, vmfile))
}
