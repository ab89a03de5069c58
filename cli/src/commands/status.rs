use posada_orchestrator::{MachineStatus, Outside};
use posada_provider_api::MachineState;
use serde::Serialize;

use crate::commands::common::NamesArgs;
use crate::commands::operation;
use crate::context::{Context, env};
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::narrate;
use crate::printer::style::{Palette, columns};

/// Show what the machines of the Vmfile are doing
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: NamesArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let outside =
        Outside { params: std::collections::BTreeMap::new(), env: &env, home: context.home_dir.clone() };
    // A Vmfile that cannot be read keeps nobody from seeing what there is; its faults follow.
    let vmfile = project.load(&outside);
    let (orchestrator, _) = operation::orchestrator(context)?;
    let all =
        context.block_on_here(orchestrator.status(&project, vmfile.as_ref().ok(), &args.names.names))??;
    let printer = &context.printer;
    for line in table(&all, printer.palette()) {
        printer.line(&line);
    }
    for status in &all {
        printer.json(&StatusEvent { event: "machine_status", status });
    }
    vmfile?;
    Ok(ExitStatus::OK)
}

/// How one machine is, as a JSON line.
#[derive(Serialize)]
pub struct StatusEvent<'a> {
    pub event: &'static str,
    #[serde(flatten)]
    pub status: &'a MachineStatus,
}

fn table(all: &[MachineStatus], palette: Palette) -> Vec<String> {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|status| {
            let mut notes: Vec<String> =
                status.forwards.iter().map(|port| narrate::forward(port, palette)).collect();
            if status.in_vmfile == Some(false) {
                notes.push(palette.warning("no longer in the Vmfile"));
            }
            vec![
                palette.strong(&status.name),
                state(status.state, palette),
                status.provider.map(|provider| provider.to_string()).unwrap_or_default(),
                palette.faint(status.r#box.as_deref().unwrap_or_default()),
                notes.join(", "),
            ]
        })
        .collect();
    columns(&rows)
}

/// A state in its colour; one that was never made is `not created` to people.
pub fn state(state: MachineState, palette: Palette) -> String {
    match state {
        MachineState::Running => palette.good("running"),
        MachineState::Suspended => palette.warning("suspended"),
        MachineState::Stopped => "stopped".to_owned(),
        MachineState::Absent => palette.faint("not created"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posada_provider_api::{Forward, ForwardedPort, Protocol, ProviderKind};

    fn status(name: &str, state: MachineState) -> MachineStatus {
        MachineStatus {
            name: name.to_owned(),
            id: None,
            state,
            provider: None,
            r#box: None,
            forwards: Vec::new(),
            project: "/project".into(),
            project_exists: true,
            in_vmfile: Some(true),
            created_at: None,
        }
    }

    #[test]
    fn a_line_a_machine() {
        let asked = Forward {
            guest: 80,
            host: 8080,
            host_ip: [127, 0, 0, 1].into(),
            protocol: Protocol::Tcp,
            auto_correct: false,
            name: None,
        };
        let web = MachineStatus {
            provider: Some(ProviderKind::Container),
            r#box: Some("debian/12 1".to_owned()),
            forwards: vec![ForwardedPort { asked, host: 8080 }],
            ..status("web", MachineState::Running)
        };
        let old = MachineStatus {
            provider: Some(ProviderKind::Container),
            r#box: Some("debian/12 1".to_owned()),
            in_vmfile: Some(false),
            ..status("old", MachineState::Stopped)
        };
        let lines =
            table(&[web, status("db", MachineState::Absent), old], Palette { colors: false, unicode: true });
        assert_eq!(
            lines,
            [
                "web  running      container  debian/12 1  127.0.0.1:8080/tcp → 80",
                "db   not created",
                "old  stopped      container  debian/12 1  no longer in the Vmfile",
            ]
        );
    }
}
