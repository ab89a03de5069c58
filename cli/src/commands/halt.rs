use posada_orchestrator::HaltOptions;

use crate::commands::common::NamesArgs;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Shut machines down
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    /// Stop them at once, without asking them to shut down
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let options = HaltOptions { force: args.force };
    operation::run(context, &cancel, orchestrator.halt(&project, &args.names.names, options))?;
    Ok(ExitStatus::OK)
}
