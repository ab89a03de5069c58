mod add;
mod build;
mod export;
mod import;
mod list;
mod login;
mod progress;
mod push;
mod release;
mod remove;
mod serve;
mod token;

use clap::Subcommand;

use crate::commands::operation::STOPPING;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;

/// Manage boxes, what machines are made from
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(add::Args),
    Build(build::Args),
    Export(export::Args),
    Import(import::Args),
    List(list::Args),
    Login(login::Args),
    Logout(login::LogoutArgs),
    Push(push::Args),
    Release(release::Args),
    Remove(remove::Args),
    Serve(serve::Args),
    Token(token::Args),
    Yank(release::YankArgs),
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    match args.command {
        Command::Add(args) => add::run(args, context),
        Command::Build(args) => build::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::List(args) => list::run(args, context),
        Command::Login(args) => login::run(args, context),
        Command::Logout(args) => login::logout(args, context),
        Command::Push(args) => push::run(args, context),
        Command::Release(args) => release::run(args, context),
        Command::Remove(args) => remove::run(args, context),
        Command::Serve(args) => serve::run(args, context),
        Command::Token(args) => token::run(args, context),
        Command::Yank(args) => release::yank(args, context),
    }
}

/// Does long work on a box, which Ctrl-C ends cleanly.
fn work<T>(
    context: &Context,
    work: impl FnOnce(&posada_box_catalog::Cancel) -> std::result::Result<T, posada_box_catalog::BoxError>,
) -> Result<T> {
    let cancel = posada_box_catalog::Cancel::default();
    let wish = cancel.clone();
    let interrupt = Interrupt::listen(&context.printer, Some(STOPPING), move |_| wish.cancel())?;
    work(&cancel).map_err(|error| Failure::from(error).interrupted_by(interrupt.exit_status()))
}

/// A box, as a JSON line.
#[derive(serde::Serialize)]
struct BoxEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    stored: &'a posada_box_catalog::StoredBox,
}
