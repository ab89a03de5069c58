//! From the words of the command line to an exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use serde_json::json;

use crate::args::Cli;
use crate::commands;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::printer::{ColorChoice, Format, Printer, Settings, Verbosity};
use crate::report::report;

/// Runs the command that `words` name, the first of which is the program's own name.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let early = early_settings(&words);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return refuse(&Printer::standard(early), &error).into(),
    };
    let printer = Printer::standard(cli.global.settings());
    let command = format!("posada {}", cli.command.name());
    let result = Context::new(&cli.global, printer.clone(), command)
        .and_then(|context| commands::run(cli.command, &context));
    let status = match result {
        Ok(status) => {
            printer.clear();
            printer.json(&json!({"event": "end", "exit_code": status.code()}));
            status
        }
        Err(failure) => {
            let status = failure.exit_status();
            report(&printer, &failure, status);
            status
        }
    };
    status.into()
}

/// Answers a command line that asks for help, or that cannot be understood.
fn refuse(printer: &Printer, error: &clap::Error) -> ExitStatus {
    let rendered = error.render();
    let text = |colors: bool| if colors { rendered.ansi().to_string() } else { rendered.to_string() };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            printer.raw(text(printer.palette().colors).as_bytes());
            printer.json(&json!({"event": "help", "text": text(false).trim_end()}));
            printer.json(&json!({"event": "end", "exit_code": 0}));
            ExitStatus::OK
        }
        _ => {
            printer.complain(text(printer.err_palette().colors).trim_end());
            let plain = text(false);
            let message = plain.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
            printer.json(&json!({
                "event": "error",
                "kind": "user",
                "exit_code": ExitStatus::USAGE.code(),
                "message": message.trim_end(),
                "causes": [],
                "hint": "`posada help` lists the commands and their options",
            }));
            ExitStatus::USAGE
        }
    }
}

/// What can be seen of the wishes for the output in a command line that was not yet understood.
fn early_settings(words: &[OsString]) -> Settings {
    let own = || words.iter().skip(1).take_while(|word| *word != "--").filter_map(|word| word.to_str());
    let color = own()
        .zip(own().skip(1).chain([""]))
        .find_map(|(word, next)| match word.split_once('=').unwrap_or((word, next)) {
            ("--color", "always") => Some(ColorChoice::Always),
            ("--color", "never") => Some(ColorChoice::Never),
            _ => None,
        })
        .unwrap_or_default();
    let format = if own().any(|word| word == "--json") { Format::Json } else { Format::Text };
    Settings { format, verbosity: Verbosity::Normal, color }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn wishes_for_the_output_are_heard_early() {
        let settings = early_settings(&words("posada upp --json --color never"));
        assert_eq!(settings.format, Format::Json);
        assert_eq!(settings.color, ColorChoice::Never);
        assert_eq!(early_settings(&words("posada --color=always")).color, ColorChoice::Always);
        assert_eq!(early_settings(&words("posada ssh -- --json")).format, Format::Text);
    }
}
