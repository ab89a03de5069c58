pub mod add;
mod build;
mod export;
mod fsck;
mod gc;
mod import;
mod info;
mod kind;
mod list;
mod login;
mod outdated;
mod progress;
mod prune;
mod push;
mod release;
mod remove;
mod serve;
mod token;
mod trust;
mod update;

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
    Fsck(fsck::Args),
    Gc(gc::Args),
    Import(import::Args),
    Info(info::Args),
    Keygen(trust::KeygenArgs),
    List(list::Args),
    Login(login::Args),
    Logout(login::LogoutArgs),
    Outdated(outdated::Args),
    Prune(prune::Args),
    Push(push::Args),
    Release(release::Args),
    Remove(remove::Args),
    Serve(Box<serve::Args>),
    Token(token::Args),
    Trust(trust::Args),
    Update(update::Args),
    Yank(release::YankArgs),
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    match args.command {
        Command::Add(args) => add::run(args, context),
        Command::Build(args) => build::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::Keygen(args) => trust::keygen(args, context),
        Command::List(args) => list::run(args, context),
        Command::Login(args) => login::run(args, context),
        Command::Logout(args) => login::logout(args, context),
        Command::Outdated(args) => outdated::run(args, context),
        Command::Push(args) => push::run(args, context),
        Command::Release(args) => release::run(args, context),
        Command::Fsck(args) => fsck::run(args, context),
        Command::Gc(args) => gc::run(args, context),
        Command::Info(args) => info::run(args, context),
        Command::Prune(args) => prune::run(args, context),
        Command::Remove(args) => remove::run(args, context),
        Command::Serve(args) => serve::run(*args, context),
        Command::Token(args) => token::run(args, context),
        Command::Trust(args) => trust::run(args, context),
        Command::Update(args) => update::run(args, context),
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

/// The store, which fetches as the user's settings and these options say.
fn fetching_store(context: &Context, args: &crate::servers::ClientArgs) -> Result<posada_box_catalog::Store> {
    let (orchestrator, _) = crate::commands::operation::orchestrator(context)?;
    Ok(orchestrator.store().clone().with_remotes(crate::servers::remotes(&context.host.home, args)?))
}

/// A box, as a JSON line.
#[derive(serde::Serialize)]
struct BoxEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    stored: &'a posada_box_catalog::StoredBox,
}

/// Which machines are made from which boxes.
struct Machines(Vec<posada_orchestrator::Entry>);

impl Machines {
    /// All of this user's. One that cannot be read may be made from any box, and is an error, unless they are `ignored`.
    fn of(orchestrator: &posada_orchestrator::Orchestrator, ignored: bool) -> Result<Self> {
        let (entries, damaged) = orchestrator.machines().list()?;
        match damaged.into_iter().next().filter(|_| !ignored) {
            Some(error) => Err(error.into()),
            None => Ok(Self(entries)),
        }
    }

    /// Those that are made from the box with this digest, with where their projects are.
    fn made_from(&self, digest: &posada_box_catalog::Digest) -> Vec<String> {
        let digest = digest.to_string();
        self.0
            .iter()
            .filter(|entry| entry.record.box_digest == digest)
            .map(|entry| format!("{} ({})", entry.record.name, entry.record.project.path.display()))
            .collect()
    }
}
