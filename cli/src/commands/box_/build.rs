use std::path::PathBuf;

use posada_box_catalog::Form;
use posada_box_catalog::build::{self, BuildOptions, Built};

use super::progress::Shown;
use super::{BoxEvent, work};
use crate::commands::operation;
use crate::context::{Context, env};
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};

/// Build a box from a distribution's packages
///
/// The box is a root file system for containers, or, with `--disk`, a disk image for virtual machines. Runs mmdebstrap with the host's own package sources. A box that was built by the same recipe before is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe that Posada has (`debian/12`), or a recipe's file
    #[arg(value_name = "RECIPE")]
    recipe: String,

    /// Make a disk image with a kernel, for virtual machines; it is kept beside the root file system of that name
    #[arg(long)]
    disk: bool,

    /// Build although the store has a box of this recipe
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let recipe = build::recipe(&args.recipe)?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let options = BuildOptions {
        force: args.force,
        form: if args.disk { Form::Disk } else { Form::Rootfs },
        source_date_epoch: source_date_epoch()?,
        etc: PathBuf::from("/etc"),
    };
    let shown = Shown::new(&context.printer, &args.recipe);
    let built =
        work(context, |cancel| build::build(orchestrator.store(), &recipe, &options, &shown, cancel))?;
    shown.finish();
    let stored = built.stored();
    let palette = context.printer.err_palette();
    let (event, what) = match &built {
        Built::New(_) => ("box_added", "is in the store"),
        Built::Already(_) => ("box_kept", "was built by this recipe; `--force` builds anew"),
    };
    let name = palette.strong(&format!("{} {}", stored.name, stored.version));
    context.printer.note(&format!("{} {name} {what}", palette.tick()));
    context.printer.json(&BoxEvent { event, stored });
    Ok(ExitStatus::OK)
}

/// The time that stands for now, as reproducible-builds.org has it.
fn source_date_epoch() -> Result<Option<u64>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    env(NAME)
        .map(|text| {
            text.parse().map_err(|_| {
                let hint = "set it to seconds since 1970, or unset it";
                CliError::usage(format!("{NAME} is `{text}`, which is no time"), hint).into()
            })
        })
        .transpose()
}
