use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Print the Vmfile's JSON Schema, for editors
///
/// Save it and point your editor at it, for example with a first line in the Vmfile:
/// `# yaml-language-server: $schema=./vmfile.schema.json`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let schema = posada_orchestrator::vmfile::schema();
    context.printer.line(&format!("{schema:#}"));
    context.printer.json(&serde_json::json!({"event": "schema", "schema": schema}));
    Ok(ExitStatus::OK)
}
