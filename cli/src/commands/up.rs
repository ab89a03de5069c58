use posada_orchestrator::{Provisioning, UpOptions};
use posada_provider_api::ProviderKind;

use crate::commands::common::{NamesArgs, ParamArgs};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Start machines, making and provisioning them where that is still to be done
///
/// Machines start side by side, each after those it depends on. A step of provisioning that succeeded before
/// and was not edited since does not run again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    /// Make machines on this backend, whatever the Vmfile says
    #[arg(long, value_enum, value_name = "PROVIDER")]
    provider: Option<Provider>,

    #[command(flatten)]
    provisioning: ProvisionArgs,

    /// Start one machine after the other
    #[arg(long)]
    no_parallel: bool,

    /// Refuse what is not as Vmfile.lock says: boxes of another version or content, scripts that were edited
    #[arg(long)]
    locked: bool,

    #[command(flatten)]
    params: ParamArgs,
}

/// Which provisioning steps run once the machine is up.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ProvisionArgs {
    /// Run also the provisioning steps that have succeeded before
    #[arg(long, conflicts_with = "no_provision")]
    provision: bool,

    /// Run no provisioning steps
    #[arg(long)]
    no_provision: bool,
}

impl ProvisionArgs {
    pub fn choice(self) -> Provisioning {
        match (self.provision, self.no_provision) {
            (true, _) => Provisioning::Again,
            (_, true) => Provisioning::Off,
            _ => Provisioning::Due,
        }
    }
}

/// A backend.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Provider {
    /// Virtual machines
    Kvm,
    /// Linux containers
    Container,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (project, vmfile) = operation::load(context, &args.params)?;
    let (orchestrator, cancel) = operation::fetching_orchestrator(context)?;
    let options = UpOptions {
        provider: args.provider.map(|provider| match provider {
            Provider::Kvm => ProviderKind::Kvm,
            Provider::Container => ProviderKind::Container,
        }),
        provisioning: args.provisioning.choice(),
        parallel: !args.no_parallel,
        locked: args.locked,
    };
    operation::run(context, &cancel, orchestrator.up(&project, &vmfile, &args.names.names, &options))?;
    Ok(ExitStatus::OK)
}
