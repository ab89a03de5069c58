use std::collections::BTreeMap;

use posada_box_catalog::{StoredBox, Which};

use super::kind::{Kind, KindArgs};
use super::{BoxEvent, Machines};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::style::bytes;

/// Remove old versions of boxes
///
/// The newest version of each box stays, and so do those that machines are made from.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this box
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    kind: KindArgs,

    /// Only tell what would be removed
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Also versions that machines are made from: they keep working, new ones cannot be made
    #[arg(long, short, conflicts_with = "keep_active_boxes")]
    force: bool,

    /// Keep versions that machines are made from, as is done anyway
    #[arg(long, short)]
    keep_active_boxes: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let machines = Machines::of(&orchestrator, args.force)?;
    let kind = args.kind.kind()?;
    let (printer, palette) = (&context.printer, context.printer.err_palette());
    let (mut freed, mut count) = (0, 0);
    for stored in old(orchestrator.store().list()?, args.name.as_deref(), &kind) {
        let users = machines.made_from(&stored.digest);
        if !users.is_empty() && !args.force {
            printer.note(&palette.faint(&format!(
                "{} {} stays: {}",
                stored.name,
                stored.version,
                users.join(", ")
            )));
            continue;
        }
        count += 1;
        if args.dry_run {
            freed += stored.size;
            printer.line(&format!("{} {} would be removed", stored.name, stored.version));
            printer.json(&BoxEvent { event: "box_prunable", stored: &stored });
            continue;
        }
        let which = Which::Version(stored.version.clone());
        let (fits, users) = (|stored: &_| kind.fits(stored), |digest: &_| machines.made_from(digest));
        let removed = orchestrator.store().remove_fitting(&stored.name, &which, &fits, args.force, &users)?;
        freed += removed.freed;
        for stored in &removed.boxes {
            printer.note(&format!("{} {} {} removed", palette.tick(), stored.name, stored.version));
            printer.json(&BoxEvent { event: "box_removed", stored });
        }
    }
    match (count, args.dry_run) {
        (0, _) => printer.note("there are no old versions that could go"),
        (_, true) => printer.note(&palette.faint(&format!("{} would be freed", bytes(freed)))),
        (_, false) => printer.note(&palette.faint(&format!("{} freed", bytes(freed)))),
    }
    Ok(ExitStatus::OK)
}

/// All but the newest version of each box, each version once.
fn old(boxes: Vec<StoredBox>, name: Option<&str>, kind: &Kind) -> Vec<StoredBox> {
    let mut by_name: BTreeMap<String, Vec<StoredBox>> = BTreeMap::new();
    let meant = |stored: &StoredBox| name.is_none_or(|name| stored.name == name) && kind.fits(stored);
    for stored in boxes.into_iter().filter(meant) {
        by_name.entry(stored.name.clone()).or_default().push(stored);
    }
    let older = |versions: Vec<StoredBox>| {
        // Newest first; a root file system and a disk may share a version.
        let mut versions = versions.into_iter();
        let newest = versions.next().map(|stored| stored.version);
        let mut older: Vec<_> = versions.filter(|stored| Some(&stored.version) != newest.as_ref()).collect();
        older.dedup_by(|a, b| a.version == b.version);
        older
    };
    by_name.into_values().flat_map(older).collect()
}
