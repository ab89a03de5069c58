use posada_box_catalog::{Digest, Version, Which};
use posada_orchestrator::Entry;

use super::BoxEvent;
use super::add::version;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style::bytes;

/// Remove a box from the store
///
/// A box that machines are made from stays, unless forced to go.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The box
    #[arg(value_name = "NAME")]
    name: String,

    /// Which version; may be left out where there is one
    #[arg(long = "version", value_name = "VERSION", conflicts_with = "all", value_parser = version)]
    version: Option<Version>,

    /// All versions
    #[arg(long)]
    all: bool,

    /// Also where machines are made from it: they keep working, new ones cannot be made
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let (entries, damaged) = orchestrator.machines().list()?;
    // A machine that cannot be read may be made from the box: its error comes before anything is lost.
    if let Some(error) = damaged.into_iter().next().filter(|_| !args.force) {
        return Err(error.into());
    }
    let which = match (args.version, args.all) {
        (Some(version), _) => Which::Version(version),
        (None, true) => Which::All,
        (None, false) => Which::Only,
    };
    let removed =
        orchestrator.store().remove(&args.name, &which, args.force, &|digest| made_from(&entries, digest))?;
    let printer = &context.printer;
    let palette = printer.err_palette();
    for stored in &removed.boxes {
        printer.note(&format!("{} {} {} removed", palette.tick(), stored.name, stored.version));
        printer.json(&BoxEvent { event: "box_removed", stored });
    }
    printer.note(&palette.faint(&format!("{} freed", bytes(removed.freed))));
    Ok(ExitStatus::OK)
}

/// The machines that are made from the box with this digest, with where their projects are.
fn made_from(entries: &[Entry], digest: &Digest) -> Vec<String> {
    let digest = digest.to_string();
    entries
        .iter()
        .filter(|entry| entry.record.box_digest == digest)
        .map(|entry| format!("{} ({})", entry.record.name, entry.record.project.path.display()))
        .collect()
}
