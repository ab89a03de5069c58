//! Holds the pages under `docs/` against what the command line really is.
//!
//! `docs/cli.md` is written from the definition of the commands: `SNAPSHOTS=overwrite cargo test -p posada` writes
//! it anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _};
use posada_provider_api::FaultKind;

use crate::args::Cli;
use crate::exit::{ExitStatus, kind_name};

const HEAD: &str = "\
# Commands

Written from the definition of the commands, as `posada help COMMAND` tells it. Exit statuses are in
[exit-codes.md](exit-codes.md), the output of `--json` in [json.md](json.md).
";

fn page() -> String {
    let mut posada = Cli::command().term_width(100);
    posada.build();
    let mut page = HEAD.to_owned();
    page.push_str("\n## Options of every command\n\n");
    options(&mut page, posada.get_arguments().filter(|argument| argument.is_global_set()));
    for command in posada.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.get_name() != "help" {
            section(&mut page, command, "posada");
        }
    }
    page
}

fn section(page: &mut String, command: &Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    let _ = write!(page, "\n## {name}\n\n{}\n", about.unwrap_or_default());
    let usage = command.clone().render_usage().to_string();
    let _ = write!(page, "\n```\n{}\n```\n\n", usage.trim_start_matches("Usage: "));
    let own =
        command.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
    options(page, own);
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(page, inner, &name);
    }
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let mut line = format!("- `{argument}`");
        if let Some(short) = argument.get_short() {
            let _ = write!(line, ", `-{short}`");
        }
        let _ = write!(line, ": {}", argument.get_help().map(ToString::to_string).unwrap_or_default());
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            let _ = write!(line, " ({})", values.join(", "));
        }
        if let Some(name) = argument.get_env() {
            let _ = write!(line, " [`{}`]", name.to_string_lossy());
        }
        page.push_str(&line);
        page.push('\n');
    }
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

#[test]
fn the_page_of_commands_is_up_to_date() {
    let page = page();
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(page, snapbox::Data::read_from(&docs("cli.md"), None).raw());
}

#[test]
fn the_page_of_exit_statuses_has_every_kind() {
    use FaultKind::{Box, Config, Environment, Internal, Machine, Provision, User};
    let page = fs_err::read_to_string(docs("exit-codes.md")).unwrap();
    for kind in [Internal, User, Config, Environment, Machine, Provision, Box] {
        let row = format!("| {} | `{}` |", ExitStatus::of(kind).code(), kind_name(kind));
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn the_page_of_events_has_every_event() {
    let page = fs_err::read_to_string(docs("json.md")).unwrap();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = Vec::new();
    events_in(&src.join("commands"), &mut names);
    events_in(&src.join("report"), &mut names);
    for file in ["app.rs", "interrupt.rs"] {
        events_of(&src.join(file), &mut names);
    }
    // Those of the orchestrator's own type, by their serde names.
    let theirs = src.join("../../orchestrator/src/event.rs");
    let text = fs_err::read_to_string(theirs).unwrap();
    let variants = text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"));
    names.extend(variants.filter(|name| name.chars().all(char::is_alphanumeric)).map(snake_case));
    assert!(names.len() > 25, "the events are found: {names:?}");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/json.md does not tell of `{name}`");
    }
}

fn events_in(dir: &Path, names: &mut Vec<String>) {
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { events_in(&path, names) } else { events_of(&path, names) }
    }
}

fn events_of(file: &Path, names: &mut Vec<String>) {
    let text = fs_err::read_to_string(file).unwrap();
    for key in ["\"event\": \"", "event: \""] {
        let found = text.split(key).skip(1).filter_map(|rest| rest.split('"').next());
        names.extend(found.map(str::to_owned));
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
