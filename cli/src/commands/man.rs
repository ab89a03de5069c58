use clap::CommandFactory as _;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};

/// Print the manual page
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(CliError::internal("cannot write the manual page"))?;
    context.printer.raw(&page);
    context.printer.json(&serde_json::json!({"event": "man", "page": String::from_utf8_lossy(&page)}));
    Ok(ExitStatus::OK)
}
