//! Boxes built by the real mmdebstrap from Debian's packages.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use libtest_mimic::Trial;
use posada_box_catalog::build::{BuildOptions, Built, Recipe, build, recipe};
use posada_box_catalog::{BoxError, Cancel, Progress, Quiet};

use crate::support::{self, World, entries, mode, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_recipe_becomes_a_box_once_and_the_same_each_time", small),
        trial("a_failing_recipe_tells_its_last_lines", failing),
        trial("a_build_can_be_cancelled", cancelled),
        trial("a_killed_build_ends_and_leaves_what_the_next_call_sweeps", killed),
        trial("recipes_are_found_by_name_and_by_path", found),
    ]
}

/// Debian's essential packages with a shell as init: the least that mmdebstrap customizes.
pub const SMALL: &str = "
name: test/small
suite: bookworm
variant: essential
user: root
files:
  - {path: /sbin/init, link: ../bin/sh}
  - {path: /etc/hello, content: \"hello\\n\", mode: '0640'}
commands:
  - echo $((6 * 7)) >/etc/answer
";

fn options(time: Option<u64>) -> BuildOptions {
    BuildOptions { source_date_epoch: time, ..BuildOptions::default() }
}

fn small() {
    let world = World::new();
    let recipe = Recipe::parse(SMALL, "small").unwrap();
    let run =
        |options: &BuildOptions| build(&world.store, &recipe, options, &Quiet, &Cancel::default()).unwrap();
    let first = run(&options(Some(1_700_000_000)));
    let Built::New(first) = first else { panic!("{first:?}") };
    assert_eq!(first.version.as_str(), "20231114.221320");
    assert_eq!((first.metadata.user.as_str(), first.metadata.recipe), ("root", Some(recipe.digest())));
    assert_eq!(std::fs::read_to_string(first.rootfs().unwrap().join("etc/hello")).unwrap(), "hello\n");
    assert_eq!(mode(&first.rootfs().unwrap().join("etc/hello")), 0o640);
    assert_eq!(std::fs::read_to_string(first.rootfs().unwrap().join("etc/answer")).unwrap(), "42\n");
    assert_eq!(run(&options(None)), Built::Already(first.clone()), "the recipe is the same");
    assert_eq!(run(&options(Some(1_700_000_000))), Built::Already(first.clone()));

    let again = run(&BuildOptions { force: true, ..options(Some(1_700_000_000)) });
    assert_eq!(again.stored().digest, first.digest, "the same recipe, packages and time");
    assert_eq!(world.store.list().unwrap(), [again.stored().clone()]);
    world.assert_clean();
}

fn failing() {
    let world = World::new();
    let text = format!("{SMALL}  - echo about to fail >&2; exit 7\n");
    let recipe = Recipe::parse(&text, "bad").unwrap();
    let error = build(&world.store, &recipe, &options(None), &Quiet, &Cancel::default()).unwrap_err();
    let BoxError::Build { name, lines, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "test/small");
    assert!(lines.iter().any(|line| line == "about to fail"), "{error}");
    assert_eq!(world.store.list().unwrap(), []);
    world.assert_clean();
}

/// Cancels as soon as packages are being downloaded.
struct CancelOn(&'static str, Cancel, Mutex<Vec<String>>);

impl Progress for CancelOn {
    fn phase(&self, text: &str, _: Option<u64>) {
        self.2.lock().unwrap().push(text.to_owned());
        if text == self.0 {
            self.1.cancel();
        }
    }
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

fn cancelled() {
    let world = World::new();
    let recipe = Recipe::parse(SMALL, "small").unwrap();
    let cancel = Cancel::default();
    let progress = CancelOn("reading package lists", cancel.clone(), Mutex::default());
    let error = build(&world.store, &recipe, &options(None), &progress, &cancel).unwrap_err();
    assert!(matches!(error, BoxError::Cancelled), "{error}");
    assert!(progress.2.lock().unwrap().contains(&"reading package lists".to_owned()));
    assert_eq!(world.store.list().unwrap(), []);
    world.assert_clean();
}

fn killed() {
    let world = World::new();
    write(&world.path("small.yaml"), SMALL);
    let mut command = Command::new(support::exe());
    command.arg(support::BUILD).arg(world.path("boxes")).arg(world.path("small.yaml"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("installing essential packages")));
    child.kill().unwrap();
    child.wait().unwrap();
    // mmdebstrap and what it started hold their directory until the last of them has ended.
    let incoming = world.path("boxes/incoming");
    for entry in entries(&incoming) {
        if let Ok(directory) = File::open(incoming.join(entry)) {
            rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
        }
    }
    let archive = world.archive("a.tar", "a", &[]);
    world.add(&archive, "after", "1").unwrap();
    world.assert_clean();
}

fn found() {
    assert_eq!(recipe("debian/12").unwrap().suite(), "bookworm");
    let error = recipe("debian/99").unwrap_err();
    assert!(
        matches!(&error, BoxError::NoRecipe { known, .. } if known.contains(&"debian/13".to_owned())),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("mine.yaml");
    std::fs::write(&path, SMALL).unwrap();
    assert_eq!(recipe(path.to_str().unwrap()).unwrap().name(), "test/small");
    assert!(matches!(recipe("./nothing.yaml"), Err(BoxError::Io { .. })));
}
