use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use posada_box_catalog::BoxRef;
use posada_templates::{Shape, StarterInput, render_starter};
use serde_json::json;

use crate::commands::common::can_ask;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};

/// Write a first Vmfile into the current directory
///
/// Asks what it should hold where that was not said and there is a terminal to ask on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the machine is made from
    #[arg(long = "box", value_name = "BOX", value_parser = box_ref)]
    box_ref: Option<BoxRef>,

    /// One machine and nothing else
    #[arg(long)]
    minimal: bool,

    /// Two machines, one of which needs the other
    #[arg(long, conflicts_with = "minimal")]
    several: bool,

    /// Replace a Vmfile that is there
    #[arg(long, short)]
    force: bool,
}

/// The box of a starter, where none was chosen.
const USUAL_BOX: &str = "debian/12";

/// The boxes that are offered.
const BOXES: [&str; 2] = [USUAL_BOX, "debian/13"];

fn box_ref(text: &str) -> std::result::Result<BoxRef, String> {
    BoxRef::parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let file = context.current_dir()?.join("Vmfile");
    if file.exists() && !args.force {
        return Err(taken(&file));
    }
    let ask = can_ask(&context.printer);
    let box_ref = match args.box_ref {
        Some(box_ref) => box_ref.to_string(),
        None if ask => BOXES[choose("Which box?", &BOXES)?].to_owned(),
        None => USUAL_BOX.to_owned(),
    };
    let shape = match (args.minimal, args.several) {
        (true, _) => Shape::Minimal,
        (_, true) => Shape::Several,
        _ if ask => {
            let shapes = [Shape::Web, Shape::Minimal, Shape::Several];
            let offered = [
                "a machine with a forwarded port, a synced folder and a provisioning step",
                "a machine and nothing else",
                "two machines, one of which needs the other",
            ];
            shapes[choose("What should the Vmfile hold?", &offered)?]
        }
        _ => Shape::Web,
    };
    let text = render_starter(shape, &StarterInput { box_ref })?;
    write(&file, &text, args.force)?;
    let palette = context.printer.err_palette();
    context.printer.note(&format!(
        "{} {} is written; {} starts what is in it",
        palette.tick(),
        file.display(),
        palette.offer("`posada up`")
    ));
    context.printer.json(&json!({"event": "created", "file": file}));
    Ok(ExitStatus::OK)
}

/// Lets the user choose one of `offered`.
fn choose(question: &str, offered: &[&str]) -> Result<usize> {
    let answer =
        dialoguer::Select::new().with_prompt(question).items(offered).default(0).interact_opt().map_err(
            |dialoguer::Error::IO(source)| CliError::host("the question could not be asked", source),
        )?;
    answer.ok_or_else(|| CliError::Declined.into())
}

/// Writes the file whole. Without `replace`, one that has come meanwhile stays.
fn write(file: &Path, text: &str, replace: bool) -> Result<()> {
    let failed = |source| CliError::host(format!("{} cannot be written", file.display()), source);
    let making = making(file);
    let mut new = File::create(&making).map_err(failed)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(failed)?;
    let placed = if replace {
        fs_err::rename(&making, file)
    } else {
        // A link is refused where the name is taken; a rename would not be.
        fs_err::hard_link(&making, file).and_then(|()| fs_err::remove_file(&making))
    };
    placed.map_err(|source| {
        // Nothing is lost with it.
        let _ = fs_err::remove_file(&making);
        if source.kind() == ErrorKind::AlreadyExists { taken(file) } else { failed(source).into() }
    })
}

fn making(file: &Path) -> PathBuf {
    file.with_file_name(format!(".Vmfile-{}", std::process::id()))
}

fn taken(file: &Path) -> crate::failure::Failure {
    CliError::usage(format!("{} is there already", file.display()), "`posada init --force` replaces it")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_stays_unless_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Vmfile");
        write(&file, "one", false).unwrap();
        assert_eq!(write(&file, "two", false).unwrap_err().exit_status(), ExitStatus::USAGE);
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "one");
        write(&file, "three", true).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "three");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
