use serde_json::json;

use crate::commands::common::{ParamArgs, count};
use crate::commands::operation::load;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Check the Vmfile and start nothing
///
/// Shows every fault in it at once, each with its line and with what would be right.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    params: ParamArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (project, vmfile) = load(context, &args.params)?;
    let names: Vec<&str> = vmfile.names().map(|name| name.as_str()).collect();
    let palette = context.printer.palette();
    context.printer.line(&format!(
        "{} {} is sound: {} ({})",
        palette.tick(),
        project.vmfile.display(),
        count(names.len(), "machine"),
        names.join(", ")
    ));
    context.printer.json(&json!({"event": "valid", "file": project.vmfile, "machines": names}));
    Ok(ExitStatus::OK)
}
