use posada_orchestrator::Provisioning;

use crate::commands::common::{NamesArgs, ParamArgs};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Run the provisioning steps of running machines
///
/// Runs the steps that have not succeeded yet, were edited since, or are marked `run: always`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    /// Run the steps of these names instead, whether they have succeeded or not
    #[arg(long, value_name = "STEP", value_delimiter = ',', conflicts_with = "all")]
    provision_with: Vec<String>,

    /// Run also the steps that have succeeded before
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    params: ParamArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (project, vmfile) = operation::load(context, &args.params)?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let what = match (args.provision_with.is_empty(), args.all) {
        (false, _) => Provisioning::Named(args.provision_with),
        (true, true) => Provisioning::Again,
        (true, false) => Provisioning::Due,
    };
    operation::run(context, &cancel, orchestrator.provision(&project, &vmfile, &args.names.names, &what))?;
    Ok(ExitStatus::OK)
}
