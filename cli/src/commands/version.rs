use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Print Posada's version
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let version = env!("CARGO_PKG_VERSION");
    context.printer.line(&format!("posada {version}"));
    context.printer.json(&serde_json::json!({"event": "version", "version": version}));
    Ok(ExitStatus::OK)
}
