use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Print a completion script for your shell
///
/// bash: `posada completions bash > ~/.local/share/bash-completion/completions/posada`
///
/// zsh: `posada completions zsh > _posada`, in a directory of `$fpath`
///
/// fish: `posada completions fish > ~/.config/fish/completions/posada.fish`
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "posada", &mut script);
    context.printer.raw(&script);
    context.printer.json(&serde_json::json!({
        "event": "completions",
        "shell": args.shell.to_string(),
        "script": String::from_utf8_lossy(&script),
    }));
    Ok(ExitStatus::OK)
}
