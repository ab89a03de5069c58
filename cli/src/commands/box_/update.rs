use posada_box_catalog::source::Wanted;
use posada_box_catalog::{BoxError, BoxRef, FetchOptions, Store};
use posada_orchestrator::lockfile;
use serde_json::json;

use super::outdated::{all, of_project};
use super::progress::Shown;
use super::{BoxEvent, fetching_store, work};
use crate::commands::common::ParamArgs;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::servers::ClientArgs;

/// Fetch newer versions of boxes
///
/// The boxes are those of the project's machines, or the one that is named. Machines stay on the version they were made from;
/// new ones are made from the newest that `box_version` allows, which Vmfile.lock names from then on. Old versions stay until `posada box prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This box of the store
    #[arg(long = "box", value_name = "NAME")]
    name: Option<String>,

    /// For which provider: `kvm`, `container`, or as Vagrant calls it
    #[arg(long, value_name = "PROVIDER", requires = "name")]
    provider: Option<String>,

    /// For which architecture; without it, this host's
    #[arg(long, value_name = "ARCHITECTURE", requires = "name")]
    architecture: Option<String>,

    /// Take the place of other content of the same version
    #[arg(long, short)]
    force: bool,

    #[command(flatten)]
    params: ParamArgs,

    #[command(flatten)]
    client: ClientArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let store = fetching_store(context, &args.client)?;
    let candidates = match &args.name {
        None => of_project(&store, context, &args.params)?,
        Some(name) => all(&store)?.into_iter().filter(|candidate| candidate.name == *name).collect(),
    };
    if candidates.is_empty() {
        let hint = "`posada box list` shows what there is, `posada box add` fetches a box for the first time";
        return Err(CliError::usage("there is no such box in the store to update", hint).into());
    }
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    work(context, |cancel| {
        for candidate in candidates {
            let wanted = Wanted {
                requirement: candidate.requirement.clone(),
                provider: args.provider.clone(),
                architecture: args.architecture.clone(),
                form: Some(candidate.form),
            };
            let newest = match candidate.newest(&store, &wanted, printer, cancel) {
                // What was built or added here since is taken up all the same.
                Err(BoxError::NoCatalog(_)) if args.name.is_none() => None,
                newest => newest?,
            };
            if newest.as_ref().is_none_or(|newest| *newest <= candidate.version) {
                let why = if newest.is_some() { "is the newest" } else { "is in no catalog that was asked" };
                printer.note(&format!("{} {} ({}) {why}", candidate.name, candidate.version, candidate.form));
                continue;
            }
            let shown = Shown::new(printer, &candidate.name);
            let reference = BoxRef::Named(candidate.name.clone());
            let options = FetchOptions { replace: args.force, ..FetchOptions::default() };
            let stored = store.fetch(&reference, &wanted, &options, &shown, cancel)?;
            shown.finish();
            let told = format!("{} {} is in the store", stored.name, stored.version);
            printer.note(&format!("{} {}", palette.tick(), palette.strong(&told)));
            printer.json(&BoxEvent { event: "box_added", stored: &stored });
        }
        Ok(())
    })?;
    if args.name.is_none() {
        move_lock(&store, context, &args.params)?;
    }
    Ok(ExitStatus::OK)
}

/// Has the project's lock file name what is the newest in the store now.
fn move_lock(store: &Store, context: &Context, params: &ParamArgs) -> Result<()> {
    let (project, vmfile) = operation::load(context, params)?;
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    let file = lockfile::path(&project);
    for moved in lockfile::update(&project, &vmfile, store)? {
        let lockfile::Moved { reference, form, from, to } = moved;
        let name = file.file_name().unwrap_or_default().display();
        printer.note(&format!("{} {name}  {reference} ({form}): {from} → {to}", palette.tick()));
        printer.json(&json!({"event": "lock_moved", "file": file, "reference": reference, "form": form,
            "from": from, "to": to}));
    }
    Ok(())
}
