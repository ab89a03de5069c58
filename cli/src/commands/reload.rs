use posada_orchestrator::UpOptions;

use crate::commands::common::{NamesArgs, ParamArgs};
use crate::commands::operation;
use crate::commands::up::ProvisionArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Shut machines down and start them with the Vmfile as it is now
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    #[command(flatten)]
    provisioning: ProvisionArgs,

    #[command(flatten)]
    params: ParamArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (project, vmfile) = operation::load(context, &args.params)?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let options = UpOptions { provisioning: args.provisioning.choice(), ..UpOptions::default() };
    operation::run(context, &cancel, orchestrator.reload(&project, &vmfile, &args.names.names, &options))?;
    Ok(ExitStatus::OK)
}
