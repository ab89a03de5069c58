use posada_box_catalog::StoredBox;

use super::BoxEvent;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::Printer;
use crate::printer::style::bytes;

/// Tell all there is to know of a box in the store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The box
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let boxes: Vec<StoredBox> =
        orchestrator.store().list()?.into_iter().filter(|stored| stored.name == args.name).collect();
    if boxes.is_empty() {
        let hint = "`posada box list` shows what there is";
        return Err(CliError::usage(format!("the box `{}` is not in the store", args.name), hint).into());
    }
    for stored in &boxes {
        show(stored, &context.printer);
        context.printer.json(&BoxEvent { event: "box", stored });
    }
    Ok(ExitStatus::OK)
}

/// Prints all that is known of one.
pub fn show(stored: &StoredBox, printer: &Printer) {
    let palette = printer.palette();
    printer.line(&format!("{} {}", palette.strong(&stored.name), stored.version));
    for (what, value) in facts(stored) {
        printer.line(&format!("  {} {value}", palette.faint(&format!("{what:<12}"))));
    }
}

fn facts(stored: &StoredBox) -> Vec<(&'static str, String)> {
    let metadata = &stored.metadata;
    let provides: Vec<String> = metadata.provides.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("system", metadata.os.name.clone()),
        ("architecture", metadata.architecture.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("holds", provides.join(", ")),
        ("size", bytes(stored.size)),
        ("digest", stored.digest.to_string()),
    ];
    if let Some(disk) = stored.disk() {
        facts.push(("disk", bytes(disk.size)));
    }
    facts
}
