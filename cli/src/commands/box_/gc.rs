use serde_json::json;

use super::progress::Shown;
use super::{Machines, work};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style::bytes;

/// Take away what can be made again, and what nothing needs
///
/// Disk images that no machine is made from are kept as chunks, which all boxes and versions share, and are put together again when a
/// machine needs one. Chunks and boxes that nothing refers to are deleted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    // Looked at for each box, as machines come and go meanwhile. One that cannot be read keeps every box as it is.
    Machines::of(&orchestrator, false)?;
    let in_use = |digest: &_| match Machines::of(&orchestrator, false) {
        Ok(machines) => machines.made_from(digest),
        Err(_) => vec!["a machine that cannot be read".to_owned()],
    };
    let shown = Shown::new(&context.printer, "store");
    let done = work(context, |cancel| orchestrator.store().gc(args.dry_run, &in_use, &shown, cancel))?;
    shown.finish();
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    let would = |done, dry| if args.dry_run { dry } else { done };
    if done.images > 0 {
        printer.note(&format!(
            "{} {} disk images ({}) {} chunks",
            palette.tick(),
            done.images,
            bytes(done.image_bytes),
            would("are kept as", "would be kept as"),
        ));
    }
    if done.chunks > 0 {
        printer.note(&format!(
            "{} {} chunks ({}) {}",
            palette.tick(),
            done.chunks,
            bytes(done.chunk_bytes),
            would("deleted", "would be deleted"),
        ));
    }
    if (done.images, done.chunks) == (0, 0) {
        printer.note("there is nothing to take away");
    }
    printer.note(&palette.faint(&format!("{} in chunks", bytes(done.kept_bytes))));
    printer.json(&json!({
        "event": "box_gc", "dry_run": args.dry_run, "images": done.images, "image_bytes": done.image_bytes,
        "chunks": done.chunks, "chunk_bytes": done.chunk_bytes, "kept_bytes": done.kept_bytes,
    }));
    Ok(ExitStatus::OK)
}
