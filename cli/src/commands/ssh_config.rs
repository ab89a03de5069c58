use posada_templates::render_ssh_config;
use serde_json::json;

use crate::commands::common::NamesArgs;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};

/// Print the configuration by which ssh, scp, rsync and editors reach the machines
///
/// `posada ssh-config > vm.conf`, then `scp -F vm.conf web:/etc/hosts .`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,

    /// Call the machine this instead of its name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let mut hosts = context.block_on_here(orchestrator.ssh_hosts(&project, &args.names.names))??;
    if let Some(name) = args.host {
        let [host] = hosts.as_mut_slice() else {
            return Err(CliError::usage(
                format!("`--host` names one machine, and there are {}", hosts.len()),
                "name the machine too: `posada ssh-config NAME --host HOST`",
            )
            .into());
        };
        host.name = name;
    }
    if hosts.is_empty() {
        context.printer.note("no machine is running");
    }
    let printer = &context.printer;
    printer.raw(render_ssh_config(&hosts)?.as_bytes());
    for host in &hosts {
        printer.json(&json!({
            "event": "ssh_host",
            "machine": host.name,
            "host": host.host_name,
            "port": host.port,
            "user": host.user,
            "identity_file": host.identity_file,
            "known_hosts": host.known_hosts,
            "host_key_alias": host.host_key_alias,
        }));
    }
    Ok(ExitStatus::OK)
}
