use clap::Subcommand;
use posada_provider_api::SnapshotOp;
use serde_json::json;

use crate::commands::common::NameArg;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Save a machine's state and go back to it
///
/// Not every provider can; one that cannot says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a snapshot
    Save(OneArgs),
    /// Go back to a snapshot
    Restore(OneArgs),
    /// Remove a snapshot
    Delete(OneArgs),
    /// List snapshots, oldest first
    List(NameArg),
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,

    /// The machine; may be left out where the project has one
    #[arg(long, short, value_name = "NAME")]
    machine: Option<String>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    match args.command {
        Command::Save(one) => change(context, one, SnapshotOp::Save, "saved"),
        Command::Restore(one) => change(context, one, SnapshotOp::Restore, "restored"),
        Command::Delete(one) => change(context, one, SnapshotOp::Delete, "deleted"),
        Command::List(of) => list(context, of),
    }
}

fn change(context: &Context, one: OneArgs, op: fn(String) -> SnapshotOp, done: &str) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let machine = one.machine.as_deref();
    operation::run(context, &cancel, orchestrator.snapshot(&project, machine, op(one.snapshot.clone())))?;
    context.printer.note(&format!("{} {} {done}", context.printer.err_palette().tick(), one.snapshot));
    context.printer.json(&json!({"event": "snapshot", "snapshot": one.snapshot, "done": done}));
    Ok(ExitStatus::OK)
}

fn list(context: &Context, of: NameArg) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    for snapshot in context.block_on_here(orchestrator.snapshots(&project, of.name.as_deref()))?? {
        context.printer.line(&snapshot);
        context.printer.json(&json!({"event": "snapshot", "snapshot": snapshot, "done": null}));
    }
    Ok(ExitStatus::OK)
}
