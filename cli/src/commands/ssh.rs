use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::Signal;
use posada_orchestrator::{Entry, Orchestrator};
use posada_provisioners::{
    Cancel, ExitStatus as RemoteStatus, OutputStream, Ssh, Stdin, StopSignal, Transport as _, TransportError,
};
use posada_templates::SshHost;
use serde_json::json;

use crate::commands::common::NameArg;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;

/// Open a shell in a machine, or run a command there
///
/// Ends with the status of the shell or command, or 128 and the signal's number where a signal ended it. What
/// follows `--` goes to the system's ssh as it is: `posada ssh web -- -L 5432:localhost:5432`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    name: NameArg,

    /// Run this command instead of a shell
    #[arg(long, short, value_name = "COMMAND")]
    command: Option<String>,

    /// Options for the system's ssh, and a command to run there
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, cancel) = operation::orchestrator(context)?;
    let entry = orchestrator.one(&project, args.name.name.as_deref())?;
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // Only the system's ssh can pass an agent on.
    let needs_ssh = on_terminal || orchestrator.forwards_agent(&entry)?;
    match args.command {
        // A command that nobody sits at needs no terminal in the machine, and no ssh on the host.
        Some(command) if args.args.is_empty() && (context.printer.is_json() || !needs_ssh) => {
            in_process(context, &orchestrator, &cancel, &entry, command)
        }
        _ if context.printer.is_json() => Err(CliError::usage(
            "a shell cannot be JSON lines",
            "`posada ssh -c COMMAND --json` runs a command and prints its output as events",
        )
        .into()),
        command => {
            let host = context.block_on_here(orchestrator.ssh_host(&entry))??;
            Err(become_ssh(&host, command.as_deref(), &args.args, on_terminal))
        }
    }
}

/// Runs a command over a session of our own, which takes a fraction of the time that a new ssh takes.
fn in_process(
    context: &Context,
    orchestrator: &Orchestrator,
    cancel: &posada_orchestrator::Cancel,
    entry: &Entry,
    command: String,
) -> Result<ExitStatus> {
    let (wish, switch) = (cancel.clone(), Arc::new(OnceLock::<Cancel>::new()));
    let running = switch.clone();
    let interrupt = Interrupt::listen(&context.printer, None, move |signal| match running.get() {
        Some(switch) => switch.cancel_by(passed_on(signal)),
        None => wish.cancel(),
    })?;
    let (printer, stop) = (context.printer.clone(), cancel.clone());
    let machine = entry.record.name.to_string();
    let outcome = context.block_on_here(async move {
        let session = orchestrator.connect(entry).await?;
        // Nobody else sets it.
        let _ = switch.set(session.cancel());
        let run = tokio::task::spawn_blocking(move || converse(session, &command, &machine, &printer, &stop));
        run.await.map_err(|error| CliError::internal("the session's thread ended")(error.into()).into())
    })?;
    let ended = |failure: Failure| failure.interrupted_by(interrupt.exit_status());
    match outcome.map_err(ended)? {
        Ok(status) => {
            let code = exit_code(&status);
            context.printer.json(&json!({"event": "exit", "status": code}));
            Ok(ExitStatus::remote(code))
        }
        Err(TransportError::Interrupted) => Ok(match interrupt.exit_status() {
            Some(status) => status,
            // Nobody reads the output any more.
            None => ExitStatus::signal(Signal::SIGPIPE as i32),
        }),
        Err(error) => Err(error.into()),
    }
}

/// What the command gets where posada gets `signal`.
fn passed_on(signal: Signal) -> StopSignal {
    match signal {
        Signal::SIGINT => StopSignal::Interrupt,
        Signal::SIGHUP => StopSignal::HangUp,
        _ => StopSignal::Terminate,
    }
}

/// Runs the command and passes on what it prints, as long as someone reads it.
fn converse(
    mut session: Ssh,
    command: &str,
    machine: &str,
    printer: &Printer,
    stop: &posada_orchestrator::Cancel,
) -> std::result::Result<RemoteStatus, TransportError> {
    let stdin = std::io::stdin();
    if printer.is_json() {
        let sink = Lines { printer, machine };
        return session.exec(command, Stdin::Fd(stdin.as_fd()), &sink);
    }
    session.run(command, Stdin::Fd(stdin.as_fd()), &mut |stream, bytes| match stream {
        OutputStream::Stdout => {
            printer.raw(bytes);
            if printer.closed() {
                stop.cancel();
            }
        }
        OutputStream::Stderr => printer.raw_err(bytes),
    })
}

struct Lines<'a> {
    printer: &'a Printer,
    machine: &'a str,
}

impl posada_provisioners::OutputSink for Lines<'_> {
    fn line(&self, stream: OutputStream, text: &str) {
        let stream = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        self.printer.json(&json!({
            "event": "output", "machine": self.machine, "stream": stream, "line": text,
        }));
    }
}

/// Becomes the system's ssh; returns only where that cannot be.
fn become_ssh(host: &SshHost, command: Option<&str>, args: &[OsString], on_terminal: bool) -> Failure {
    let mut ssh = Command::new("ssh");
    ssh.args(options(host));
    if command.is_some() && on_terminal {
        ssh.arg("-t");
    }
    // ssh takes options behind the host too, and what follows them as the command.
    ssh.arg(&host.name).args(args);
    if let Some(command) = command {
        ssh.args(["--", command]);
    }
    let source = ssh.exec();
    let hint =
        "install Debian's package `openssh-client`; `posada ssh -c COMMAND < /dev/null | cat` does without";
    CliError::Host { what: "ssh cannot be run".to_owned(), hint: Some(hint.to_owned()), source: Some(source) }
        .into()
}

/// What the system's ssh has to be told, without any file.
fn options(host: &SshHost) -> Vec<String> {
    let quoted = |path: &std::path::Path| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
    let mut options = vec!["-F".to_owned(), "none".to_owned()];
    for option in [
        format!("HostName={}", host.host_name),
        format!("Port={}", host.port),
        format!("User={}", host.user),
        format!("IdentityFile={}", quoted(&host.identity_file)),
        "IdentitiesOnly=yes".to_owned(),
        format!("UserKnownHostsFile={}", quoted(&host.known_hosts)),
        "GlobalKnownHostsFile=none".to_owned(),
        format!("HostKeyAlias={}", host.host_key_alias),
        "StrictHostKeyChecking=yes".to_owned(),
        "PasswordAuthentication=no".to_owned(),
        "LogLevel=ERROR".to_owned(),
        format!("ForwardAgent={}", if host.forward_agent { "yes" } else { "no" }),
    ] {
        options.extend(["-o".to_owned(), option]);
    }
    options
}

/// The status a shell would give.
fn exit_code(status: &RemoteStatus) -> u8 {
    match status {
        RemoteStatus::Code(code) => u8::try_from(*code & 0xff).unwrap_or(u8::MAX),
        RemoteStatus::Signal(name) => match format!("SIG{name}").parse::<Signal>() {
            Ok(signal) => ExitStatus::signal(signal as i32).code(),
            Err(_) => u8::MAX,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(exit_code(&RemoteStatus::Code(3)), 3);
        assert_eq!(exit_code(&RemoteStatus::Code(255)), 255);
        assert_eq!(exit_code(&RemoteStatus::Signal("TERM".to_owned())), 143);
        assert_eq!(exit_code(&RemoteStatus::Signal("odd@example".to_owned())), 255);
    }

    #[test]
    fn the_system_ssh_understands_its_options() {
        let host = SshHost {
            name: "web".to_owned(),
            host_name: "127.0.0.1".to_owned(),
            port: 2222,
            user: "posada".to_owned(),
            identity_file: "/home/a user/100%/id_ed25519".into(),
            known_hosts: "/home/a user/known_hosts".into(),
            host_key_alias: "web-3f9a1c20".to_owned(),
            forward_agent: true,
        };
        let output = Command::new("ssh").arg("-G").args(options(&host)).arg("web").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let understood = String::from_utf8(output.stdout).unwrap();
        for line in [
            "hostname 127.0.0.1",
            "port 2222",
            "user posada",
            "identityfile /home/a user/100%%/id_ed25519",
            "userknownhostsfile \"/home/a user/known_hosts\"",
            "hostkeyalias web-3f9a1c20",
            "stricthostkeychecking true",
            "forwardagent yes",
        ] {
            let plain = understood.replace('"', "");
            assert!(plain.contains(&line.replace('"', "")), "{line} in {plain}");
        }
    }
}
