use posada_orchestrator::{Error, Orchestrator};
use posada_provider_api::MachineId;

use crate::commands::common::{NamesArgs, confirm, count};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Remove machines and everything in them
///
/// Asks first. The Vmfile, synced folders and boxes stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    /// Do not ask
    #[arg(long, short)]
    force: bool,

    /// Remove the machine with this id, as `posada global-status` shows it; works where its project is gone
    #[arg(long, value_name = "ID", conflicts_with = "names", value_parser = machine_id)]
    id: Vec<MachineId>,
}

fn machine_id(text: &str) -> std::result::Result<MachineId, String> {
    MachineId::parse(text)
        .map_err(|_| "an id looks like `web-3f9a1c20`; `posada global-status` lists them".to_owned())
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let (entries, damaged) = if args.id.is_empty() {
        (orchestrator.destroyable(&context.project()?, &args.names.names)?, Vec::new())
    } else {
        by_id(&orchestrator, args.id)?
    };
    let named: Vec<String> = entries
        .iter()
        .map(|entry| entry.record.name.to_string())
        .chain(damaged.iter().map(ToString::to_string))
        .collect();
    if named.is_empty() {
        context.printer.note("there is nothing to destroy");
        return Ok(ExitStatus::OK);
    }
    if !args.force {
        let question = format!("Destroy {} ({})?", count(named.len(), "machine"), named.join(", "));
        confirm(&context.printer, &question, "`posada destroy -f` does not ask")?;
    }
    context.printer.expect_machines(named.iter().map(String::as_str));
    operation::run(context, &cancel, async {
        orchestrator.destroy(entries).await?;
        for id in &damaged {
            orchestrator.destroy_damaged(id).await?;
        }
        Ok(())
    })?;
    Ok(ExitStatus::OK)
}

type Found = (Vec<posada_orchestrator::Entry>, Vec<MachineId>);

/// The machines of these identities, and those of them whose records cannot be read.
fn by_id(orchestrator: &Orchestrator, ids: Vec<MachineId>) -> Result<Found> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for id in ids {
        match orchestrator.machines().by_id(&id) {
            Ok(entry) => entries.push(entry),
            Err(Error::Damaged { .. }) => damaged.push(id),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((entries, damaged))
}
