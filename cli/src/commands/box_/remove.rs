use posada_box_catalog::{Version, Which};

use super::add::version;
use super::{BoxEvent, Machines};
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
    #[arg(
        long = "version",
        visible_alias = "box-version",
        value_name = "VERSION",
        conflicts_with = "all",
        value_parser = version
    )]
    version: Option<Version>,

    /// All versions
    #[arg(long)]
    all: bool,

    /// Both the root file system and the disk image of that name, as is done anyway
    #[arg(long)]
    all_providers: bool,

    /// Also where machines are made from it: they keep working, new ones cannot be made
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let machines = Machines::of(&orchestrator, args.force)?;
    // A name stands for both forms of a box, and Vagrant's option asks for what is always done.
    let Args { all_providers: _, .. } = args;
    let which = match (args.version, args.all) {
        (Some(version), _) => Which::Version(version),
        (None, true) => Which::All,
        (None, false) => Which::Only,
    };
    let removed =
        orchestrator.store().remove(&args.name, &which, args.force, &|digest| machines.made_from(digest))?;
    let printer = &context.printer;
    let palette = printer.err_palette();
    for stored in &removed.boxes {
        printer.note(&format!("{} {} {} removed", palette.tick(), stored.name, stored.version));
        printer.json(&BoxEvent { event: "box_removed", stored });
    }
    printer.note(&palette.faint(&format!("{} freed", bytes(removed.freed))));
    Ok(ExitStatus::OK)
}
