//! Running mmdebstrap: its archive goes straight into the store.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

use super::overlay;
use super::recipe::Recipe;
use crate::store::{NewBox, Scratch, Store, StoredBox};
use crate::{BoxError, Cancel, Progress, worker};

const TOOL: &str = "mmdebstrap";
/// Lines kept for the error, should it fail.
const LAST_LINES: usize = 15;

/// What mmdebstrap says it does, and how that is told.
const PHASES: [(&str, &str); 8] = [
    ("running apt-get update", "reading package lists"),
    ("downloading packages", "downloading packages"),
    ("extracting archives", "unpacking essential packages"),
    ("installing essential packages", "installing essential packages"),
    ("downloading apt", "downloading packages"),
    ("installing remaining packages", "installing packages"),
    ("cleaning package lists", "cleaning up"),
    ("creating tarball", "packing and storing"),
];

/// One run of mmdebstrap.
pub struct Bootstrap<'a> {
    pub recipe: &'a Recipe,
    /// Lines for sources.list; none leaves it to mmdebstrap.
    pub sources: Vec<String>,
    /// Seconds since 1970 that stand for the time of the build.
    pub time: u64,
}

impl Bootstrap<'_> {
    /// Builds and stores the box.
    pub fn run(
        &self,
        store: &Store,
        new: &NewBox,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        // Before minutes of work, not after them.
        worker::check(store.exe())?;
        progress.phase("starting mmdebstrap", None);
        store.scratch(|scratch| {
            let overlay = scratch.path().join("files.tar");
            let failed = |error| BoxError::io("write", overlay.clone(), error);
            let file = File::create(&overlay).map_err(failed)?;
            overlay::write(self.recipe, self.time, file).map_err(failed)?;
            let mut child = self.start(store.exe(), scratch, &overlay)?;
            let _watch = cancel.watch_group(&child);
            std::thread::scope(|scope| {
                let errors = child.stderr.take();
                let reader =
                    scope.spawn(move || errors.map(|errors| follow(errors, progress)).unwrap_or_default());
                let input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
                let sound = || {
                    let lines = reader.join().unwrap_or_default();
                    self.check(&mut child, lines, cancel)
                };
                let stored = store.ingest(
                    self.recipe.name(),
                    input,
                    new,
                    self.recipe.form(),
                    None,
                    progress,
                    cancel,
                    sound,
                );
                // Where the store gave up before it began, mmdebstrap finds its pipe closed.
                child.wait().map_err(|error| BoxError::io("wait for", TOOL, error))?;
                stored
            })
        })
    }

    fn start(&self, exe: &Path, scratch: &Scratch<'_>, overlay: &Path) -> Result<Child, BoxError> {
        let program = find(TOOL).ok_or(BoxError::ToolMissing { tool: TOOL, package: TOOL })?;
        let mut command = worker::dying_with_us(exe, scratch.path(), program);
        // The ids that mmdebstrap works with for an ordinary user cannot reach that user's own directories.
        let workshop = if geteuid().is_root() {
            scratch.path().to_owned()
        } else {
            scratch.elsewhere(Path::new("/var/tmp"))?
        };
        self.arguments(&mut command, overlay);
        command.env("SOURCE_DATE_EPOCH", self.time.to_string()).env("LC_ALL", "C.UTF-8");
        command.env("TMPDIR", workshop);
        // A group of its own, to be killed as one: told to end, mmdebstrap waits for what it has started, which may
        // in turn wait for mmdebstrap to read its output.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| BoxError::io("run", TOOL, error))
    }

    fn arguments(&self, command: &mut Command, overlay: &Path) {
        let mode = if geteuid().is_root() { "root" } else { "unshare" };
        let recipe = self.recipe;
        command
            .arg(format!("--mode={mode}"))
            .arg("--format=tar")
            // Stays in the box: a machine's disk is easily made again, and installing packages is what takes time.
            .arg("--dpkgopt=force-unsafe-io")
            .arg(format!("--variant={}", recipe.variant()))
            .arg(format!("--components={}", recipe.components().join(",")));
        if !recipe.packages().is_empty() {
            command.arg(format!("--include={}", recipe.packages().join(",")));
        }
        command.arg(format!("--customize-hook=tar-in {} /", shell_quoted(&overlay.display().to_string())));
        for text in recipe.commands() {
            command.arg(format!("--customize-hook=chroot \"$1\" sh -euc {}", shell_quoted(text)));
        }
        command.arg("--").arg(recipe.suite()).arg("-").args(&self.sources);
    }

    fn check(&self, child: &mut Child, lines: Vec<String>, cancel: &Cancel) -> Result<(), BoxError> {
        let status = child.wait().map_err(|error| BoxError::io("wait for", TOOL, error))?;
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        if status.success() {
            return Ok(());
        }
        Err(BoxError::Build {
            name: self.recipe.name().to_owned(),
            what: format!("mmdebstrap ended with {status}"),
            lines,
        })
    }
}

/// Tells phases and warnings as they come; the last lines come back.
fn follow(errors: impl Read, progress: &dyn Progress) -> Vec<String> {
    let mut last = VecDeque::new();
    for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(what) = line.strip_prefix("I: ") {
            if let Some((_, phase)) = PHASES.iter().find(|(said, _)| what.starts_with(said)) {
                progress.phase(phase, None);
            } else if what.starts_with("running --customize-hook") {
                progress.phase("customizing", None);
            }
        }
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}

/// Where the program is, in the directories Debian keeps programs in.
fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(tool))
        .find(|path| path.exists())
}

/// One word for a shell, whatever it holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn phase(&self, text: &str, _: Option<u64>) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn advance(&self, _: u64) {}
        fn warn(&self, _: &str) {}
    }

    #[test]
    fn phases_are_told_and_the_last_lines_kept() {
        let heard = Heard::default();
        let noise: String = (0..40).map(|i| format!("line {i}\n")).collect();
        let text = format!(
            "I: running apt-get update...\nI: running --customize-hook in shell: sh -c x\n{noise}E: bad\n"
        );
        let last = follow(text.as_bytes(), &heard);
        assert_eq!(*heard.0.lock().unwrap(), ["reading package lists", "customizing"]);
        assert_eq!(last.len(), LAST_LINES);
        assert!(last.last().unwrap().starts_with("E: bad"));
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let text = "a 'b' \"$c\" \\ `d`\nnext";
        let output =
            Command::new("sh").arg("-c").arg(format!("printf %s {}", shell_quoted(text))).output().unwrap();
        assert_eq!(output.stdout, text.as_bytes());
    }
}
