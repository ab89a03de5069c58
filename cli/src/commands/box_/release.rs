use posada_box_catalog::{Fate, Version, decide};
use serde_json::json;
use url::Url;

use super::progress::Shown;
use super::{add, work};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::servers::{ClientArgs, client, server};

/// Let all see a version that was pushed without being released
///
/// It does not change any more then.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
}

/// Take a released version out of a repository's catalog
///
/// Who has it keeps it, and the URLs of its files still work; nobody new gets it.
#[derive(Debug, clap::Args)]
pub struct YankArgs {
    #[command(flatten)]
    which: Which,

    /// Put it back
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The box: `team/web`
    #[arg(value_name = "NAME")]
    name: String,

    /// Its version
    #[arg(long = "version", value_name = "VERSION", value_parser = add::version)]
    version: Version,

    /// The repository, where it is not the one that boxes come from
    #[arg(long, value_name = "URL", value_parser = server)]
    to: Option<Url>,

    #[command(flatten)]
    client: ClientArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    carry_out(args.which, Fate::Released, ("is released at", "box_released"), context)
}

/// Takes a version out of the catalog, or puts it back.
///
/// # Errors
/// What the repository says.
pub fn yank(args: YankArgs, context: &Context) -> Result<ExitStatus> {
    let (fate, told) = match args.undo {
        false => (Fate::Yanked, ("is no longer offered by", "box_yanked")),
        true => (Fate::Unyanked, ("is offered again by", "box_unyanked")),
    };
    carry_out(args.which, fate, told, context)
}

fn carry_out(which: Which, fate: Fate, (told, event): (&str, &str), context: &Context) -> Result<ExitStatus> {
    let Which { name, version, to, client: args } = which;
    let (client, servers) = client(context, &args)?;
    let server = servers.or_default(to)?;
    let printer = &context.printer;
    let shown = Shown::new(printer, &name);
    work(context, |cancel| decide(&client, &server, (&name, &version), fate, &shown, cancel))?;
    let palette = printer.err_palette();
    printer.note(&format!("{} {} {version} {told} {server}", palette.tick(), palette.strong(&name)));
    printer.json(&json!({"event": event, "name": name, "version": version, "server": server}));
    Ok(ExitStatus::OK)
}
