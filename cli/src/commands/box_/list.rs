use posada_box_catalog::StoredBox;

use super::{BoxEvent, info};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style::{Palette, bytes, columns};

/// List the boxes in the store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tell all that is known of each
    #[arg(long, short = 'i')]
    box_info: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let boxes = orchestrator.store().list()?;
    let printer = &context.printer;
    if boxes.is_empty() {
        printer.note("there are no boxes; `posada box build debian/12` makes one");
    }
    if args.box_info {
        boxes.iter().for_each(|stored| info::show(stored, printer));
    } else {
        for line in table(&boxes, printer.palette()) {
            printer.line(&line);
        }
    }
    for stored in &boxes {
        printer.json(&BoxEvent { event: "box", stored });
    }
    Ok(ExitStatus::OK)
}

fn table(boxes: &[StoredBox], palette: Palette) -> Vec<String> {
    let rows: Vec<Vec<String>> = boxes
        .iter()
        .map(|stored| {
            let metadata = &stored.metadata;
            vec![
                palette.strong(&stored.name),
                stored.version.to_string(),
                metadata.os.name.clone(),
                metadata.architecture.clone().unwrap_or_default(),
                metadata.provides.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                bytes(stored.size),
            ]
        })
        .collect();
    columns(&rows)
}
