use std::path::PathBuf;

use posada_box_catalog::Version;
use posada_orchestrator::PackageOptions;
use serde_json::json;

use crate::commands::box_::add::version;
use crate::commands::common::NameArg;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style;

/// Make a box of a machine
///
/// The file is a box as Vagrant's are: for LXC of a container, for libvirt of a virtual machine. What is the machine's own is left
/// out: its SSH keys and those of its users, its machine id, logs, shell histories, caches, what cloud-init knows, and the names and the environment that
/// Posada gave it. The machine is halted first; its own disk stays as it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    name: NameArg,

    /// The file
    #[arg(long, short, value_name = "FILE", default_value = "package.box")]
    output: PathBuf,

    /// Add it to the store, too, under this name: `team/web`
    #[arg(long = "as", value_name = "BOX")]
    called: Option<String>,

    /// Its version in the store
    #[arg(long = "version", value_name = "VERSION", value_parser = version, requires = "called", default_value = "0")]
    version: Version,

    /// Replace the file, and other content of this name and version
    #[arg(long, short)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let options = PackageOptions {
        output: args.output,
        name: args.called.map(|name| (name, args.version)),
        replace: args.force,
    };
    let name = args.name.name.as_deref();
    let packaged = operation::run(context, &cancel, orchestrator.package(&project, name, &options))?;
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    let file = options.output.display().to_string();
    printer.note(&format!(
        "{} {}  {}",
        palette.tick(),
        palette.strong(&file),
        palette.faint(&style::bytes(packaged.size))
    ));
    if let Some(stored) = &packaged.stored {
        let name = palette.strong(&format!("{} {}", stored.name, stored.version));
        printer.note(&format!("{} {name} is in the store", palette.tick()));
    }
    printer.json(&json!({"event": "packaged", "file": file, "size": packaged.size, "box": packaged.stored}));
    Ok(ExitStatus::OK)
}
