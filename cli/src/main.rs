//! The `posada` command.

mod app;
mod args;
mod buckets;
mod commands;
mod context;
mod entries;
mod exit;
mod failure;
mod interrupt;
mod kept;
mod printer;
#[cfg(test)]
mod reference;
mod report;
mod servers;
mod terminal;
mod trust;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // Entries come before all else: they need a process with one thread and nothing set up.
    match entries::dispatch(&words) {
        Some(code) => code,
        None => app::run(words),
    }
}
