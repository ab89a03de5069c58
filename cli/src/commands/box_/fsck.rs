use serde_json::json;

use super::progress::Shown;
use super::work;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};

/// Look whether all boxes are whole
///
/// Chunks, and disk images that were divided into chunks, are read and compared with what they must be. What is damaged is taken out, and
/// mended where the store has it a second time. Ends with 4 where a box must be added again.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let shown = Shown::new(&context.printer, "store");
    let found = work(context, |cancel| orchestrator.store().fsck(&shown, cancel))?;
    shown.finish();
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    for damage in &found.damaged {
        let name = damage.name.clone().unwrap_or_else(|| damage.digest.to_string());
        let version = damage.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        printer.note(&format!("{} {}{version}: {}", palette.cross(), palette.strong(&name), damage.what));
        printer.note(&palette.faint(&format!("  {}", damage.hint)));
    }
    if found.damaged_chunks > 0 {
        printer.note(&format!(
            "{} {} damaged chunks were taken out, {} brought back",
            palette.bang(),
            found.damaged_chunks,
            found.restored_chunks
        ));
    }
    printer.json(&json!({"event": "box_fsck", "boxes": found.boxes, "not_compared": found.not_compared,
        "chunks": found.chunks, "damaged_chunks": found.damaged_chunks,
        "restored_chunks": found.restored_chunks, "damaged": found.damaged}));
    if !found.damaged.is_empty() {
        let count = found.damaged.len();
        return Err(CliError::Unhealthy(format!("{count} of {} boxes are not whole", found.boxes)).into());
    }
    let rest = match found.not_compared {
        0 => String::new(),
        count => format!("; {count} hold files that nothing is known of to compare them with"),
    };
    printer.note(&format!(
        "{} {} boxes, {} chunks: nothing is damaged{rest}",
        palette.tick(),
        found.boxes,
        found.chunks
    ));
    Ok(ExitStatus::OK)
}
