use posada_provider_api::{ForwardedPort, Protocol};
use serde::Serialize;

use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::narrate;

/// Show where a machine's forwarded ports are on the host
///
/// With a port of the machine, prints the port of the host alone, for scripts: `posada port web 80`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine; may be left out where the project has one
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// A port of the machine
    #[arg(value_name = "GUEST_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    guest_port: Option<u16>,
}

impl Args {
    /// The machine and the port: of `posada port 80`, the only word is the port.
    fn words(self) -> (Option<String>, Option<u16>) {
        match (self.name, self.guest_port) {
            (Some(word), None) => match word.parse() {
                Ok(port) if port > 0 => (None, Some(port)),
                _ => (Some(word), None),
            },
            words => words,
        }
    }
}

/// A forward in force, as a JSON line.
#[derive(Serialize)]
struct ForwardEvent<'a> {
    event: &'static str,
    machine: &'a str,
    guest: u16,
    host: u16,
    host_ip: std::net::IpAddr,
    protocol: Protocol,
    name: Option<&'a str>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (name, guest_port) = args.words();
    let project = context.project()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let entry = orchestrator.one(&project, name.as_deref())?;
    let machine = entry.record.name.as_str();
    let mut ports = context.block_on_here(orchestrator.ports(&entry))??;
    let printer = &context.printer;
    if let Some(wanted) = guest_port {
        ports = chosen(ports, wanted);
        if ports.is_empty() {
            return Err(CliError::usage(
                format!("port {wanted} of {machine} is not forwarded"),
                format!("`posada port {machine}` lists what is; a forward is a line under `networks`"),
            )
            .into());
        }
        ports.truncate(1);
        ports.iter().for_each(|port| printer.line(&port.host.to_string()));
    } else {
        if ports.is_empty() {
            printer.note(&format!("{machine} forwards no ports"));
        }
        ports.iter().for_each(|port| printer.line(&narrate::forward(port, printer.palette())));
    }
    for port in &ports {
        let asked = &port.asked;
        printer.json(&ForwardEvent {
            event: "forward",
            machine,
            guest: asked.guest,
            host: port.host,
            host_ip: asked.host_ip,
            protocol: asked.protocol,
            name: asked.name.as_deref(),
        });
    }
    Ok(ExitStatus::OK)
}

/// The forwards to `guest`, TCP first.
fn chosen(ports: Vec<ForwardedPort>, guest: u16) -> Vec<ForwardedPort> {
    let mut ports: Vec<_> = ports.into_iter().filter(|port| port.asked.guest == guest).collect();
    ports.sort_by_key(|port| port.asked.protocol);
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_a_port() {
        let words = |name: &str, port| Args { name: Some(name.to_owned()), guest_port: port }.words();
        assert_eq!(words("80", None), (None, Some(80)));
        assert_eq!(words("web", None), (Some("web".to_owned()), None));
        assert_eq!(words("80", Some(81)), (Some("80".to_owned()), Some(81)));
        assert_eq!(words("0", None), (Some("0".to_owned()), None));
    }
}
