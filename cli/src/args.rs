//! The command line as a whole. What a command takes is in the command's own file.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    box_, completions, console, destroy, doctor, global_status, halt, init, log, man, package, port,
    provision, reload, resume, schema, snapshot, ssh, ssh_config, status, suspend, up, validate, version,
};
use crate::exit;
use crate::printer::{ColorChoice, Format, Settings, Verbosity};

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new().dimmed())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

/// Developer machines from one file.
///
/// Posada reads a Vmfile and gives you the machines it describes: virtual machines where the host has KVM,
/// system containers elsewhere. `posada init` writes a first Vmfile, `posada up` starts what is in it.
#[derive(Debug, Parser)]
#[command(
    name = "posada",
    version,
    styles = STYLES,
    after_long_help = exit::HELP,
    disable_help_subcommand = false,
    infer_subcommands = false,
    max_term_width = 100,
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,

    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Print JSON lines, one event each, on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Print results, warnings and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print also what begins, and machines' consoles while they start
    #[arg(long, short, global = true)]
    pub verbose: bool,

    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true
    )]
    pub color: ColorChoice,

    /// The Vmfile; without it, the one in the current directory or the nearest above
    #[arg(long, global = true, value_name = "FILE", env = "POSADA_VMFILE", hide_env_values = true)]
    pub vmfile: Option<PathBuf>,

    /// Where Posada keeps boxes and machines
    #[arg(long, global = true, value_name = "DIR", env = "POSADA_HOME", hide_env_values = true)]
    pub home: Option<PathBuf>,
}

impl GlobalArgs {
    /// What the user chose of the output.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            format: if self.json { Format::Json } else { Format::Text },
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (_, true) => Verbosity::Verbose,
                _ => Verbosity::Normal,
            },
            color: self.color,
        }
    }
}

/// The commands there are.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Args),
    Up(up::Args),
    Ssh(ssh::Args),
    Status(status::Args),
    Halt(halt::Args),
    Destroy(destroy::Args),
    Reload(reload::Args),
    Provision(provision::Args),
    Suspend(suspend::Args),
    Resume(resume::Args),
    Snapshot(snapshot::Args),
    Package(package::Args),
    Port(port::Args),
    Log(log::Args),
    Console(console::Args),
    SshConfig(ssh_config::Args),
    GlobalStatus(global_status::Args),
    Validate(validate::Args),
    Schema(schema::Args),
    Box(std::boxed::Box<box_::Args>),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Version(version::Args),
    Man(man::Args),
}

impl Command {
    /// The command's name as it is typed.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Up(_) => "up",
            Self::Ssh(_) => "ssh",
            Self::Status(_) => "status",
            Self::Halt(_) => "halt",
            Self::Destroy(_) => "destroy",
            Self::Reload(_) => "reload",
            Self::Provision(_) => "provision",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Snapshot(_) => "snapshot",
            Self::Package(_) => "package",
            Self::Port(_) => "port",
            Self::Log(_) => "log",
            Self::Console(_) => "console",
            Self::SshConfig(_) => "ssh-config",
            Self::GlobalStatus(_) => "global-status",
            Self::Validate(_) => "validate",
            Self::Schema(_) => "schema",
            Self::Box(_) => "box",
            Self::Doctor(_) => "doctor",
            Self::Completions(_) => "completions",
            Self::Version(_) => "version",
            Self::Man(_) => "man",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_explained() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no help");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {} has no help", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn commands_are_called_what_they_are_called() {
        let cli = Cli::parse_from(["posada", "global-status", "--json"]);
        assert_eq!(cli.command.name(), "global-status");
        assert_eq!(cli.global.settings().format, Format::Json);
    }
}
