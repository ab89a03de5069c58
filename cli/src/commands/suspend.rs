use crate::commands::common::NamesArgs;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Freeze running machines where they are
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    operation::run(context, &cancel, orchestrator.suspend(&project, &args.names.names))?;
    Ok(ExitStatus::OK)
}
