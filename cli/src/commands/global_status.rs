use posada_orchestrator::MachineStatus;

use crate::commands::operation;
use crate::commands::status::{StatusEvent, state};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style::{Palette, columns};

/// Show all machines of all projects
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let (all, damaged) = context.block_on_here(orchestrator.global_status())??;
    let printer = &context.printer;
    if all.is_empty() && damaged.is_empty() {
        printer.note("there are no machines; `posada up` makes those of a Vmfile");
    }
    for line in table(&all, printer.palette()) {
        printer.line(&line);
    }
    for status in &all {
        printer.json(&StatusEvent { event: "machine_status", status });
    }
    // All that can be read has been shown: the first that cannot be is the error, the others are told.
    let mut damaged = damaged.into_iter();
    let first = damaged.next();
    for error in damaged {
        printer.warn(&error.to_string());
    }
    match first {
        None => Ok(ExitStatus::OK),
        Some(error) => Err(error.into()),
    }
}

fn table(all: &[MachineStatus], palette: Palette) -> Vec<String> {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|status| {
            let project = status.project.display().to_string();
            vec![
                palette.strong(status.id.as_deref().unwrap_or_default()),
                status.name.clone(),
                state(status.state, palette),
                status.provider.map(|provider| provider.to_string()).unwrap_or_default(),
                if status.project_exists {
                    project
                } else {
                    format!("{project} {}", palette.warning("(gone)"))
                },
            ]
        })
        .collect();
    columns(&rows)
}
