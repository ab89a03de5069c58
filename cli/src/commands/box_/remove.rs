use posada_box_catalog::{Version, Which};

use super::add::version;
use super::kind::KindArgs;
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

    #[command(flatten)]
    kind: KindArgs,

    /// Both the root file system and the disk image of that name, as is done anyway
    #[arg(long, conflicts_with = "provider")]
    all_providers: bool,

    /// Those for all architectures, as is done anyway
    #[arg(long, conflicts_with = "architecture")]
    all_architectures: bool,

    /// Also where machines are made from it: they keep working, new ones cannot be made
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let machines = Machines::of(&orchestrator, args.force)?;
    // A name stands for all of a box, and Vagrant's options ask for what is always done.
    let Args { all_providers: _, all_architectures: _, .. } = args;
    let kind = args.kind.kind()?;
    let which = match (args.version, args.all) {
        (Some(version), _) => Which::Version(version),
        (None, true) => Which::All,
        (None, false) => Which::Only,
    };
    let (fits, users) = (|stored: &_| kind.fits(stored), |digest: &_| machines.made_from(digest));
    let removed = orchestrator.store().remove_fitting(&args.name, &which, &fits, args.force, &users)?;
    let printer = &context.printer;
    let palette = printer.err_palette();
    for stored in &removed.boxes {
        printer.note(&format!("{} {} {} removed", palette.tick(), stored.name, stored.version));
        printer.json(&BoxEvent { event: "box_removed", stored });
    }
    printer.note(&palette.faint(&format!("{} freed", bytes(removed.freed))));
    Ok(ExitStatus::OK)
}
