//! One command a file: arguments whose doc comment is the help, and one `run`.

pub mod box_;
pub mod common;
pub mod completions;
pub mod console;
pub mod destroy;
pub mod doctor;
pub mod global_status;
pub mod halt;
pub mod init;
pub mod log;
pub mod man;
pub mod operation;
pub mod package;
pub mod port;
pub mod provision;
pub mod reload;
pub mod resume;
pub mod schema;
pub mod snapshot;
pub mod ssh;
pub mod ssh_config;
pub mod status;
pub mod suspend;
pub mod up;
pub mod validate;
pub mod version;

use crate::args::Command;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Runs `command`.
///
/// # Errors
/// Those of the command.
pub fn run(command: Command, context: &Context) -> Result<ExitStatus> {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Up(args) => up::run(args, context),
        Command::Ssh(args) => ssh::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Halt(args) => halt::run(args, context),
        Command::Destroy(args) => destroy::run(args, context),
        Command::Reload(args) => reload::run(args, context),
        Command::Provision(args) => provision::run(args, context),
        Command::Suspend(args) => suspend::run(args, context),
        Command::Resume(args) => resume::run(args, context),
        Command::Snapshot(args) => snapshot::run(args, context),
        Command::Package(args) => package::run(args, context),
        Command::Port(args) => port::run(args, context),
        Command::Log(args) => log::run(args, context),
        Command::Console(args) => console::run(args, context),
        Command::SshConfig(args) => ssh_config::run(args, context),
        Command::GlobalStatus(args) => global_status::run(args, context),
        Command::Validate(args) => validate::run(args, context),
        Command::Schema(args) => schema::run(args, context),
        Command::Box(args) => box_::run(*args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Version(args) => version::run(args, context),
        Command::Man(args) => man::run(args, context),
    }
}
