//! A home and a project of a test's own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::boxes::{self, open_folder};
use crate::{Ordinary, Outcome, place};

/// Who runs posada.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Root, as the tests themselves.
    Root,
    /// An ordinary user made for it.
    Ordinary(Ordinary),
}

impl Caller {
    /// What this caller's sandboxes share.
    pub(crate) fn cache(&self) -> PathBuf {
        open_folder(&place::cache());
        let name = match self {
            Self::Root => "root".to_owned(),
            Self::Ordinary(user) => user.name().to_owned(),
        };
        let path = place::cache().join(name);
        open_folder(&path);
        self.own(&path);
        path
    }

    /// Gives `path` to this caller.
    fn own(&self, path: &Path) {
        if let Self::Ordinary(user) = self {
            user.own(path);
        }
    }

    /// posada with this `home`, run in `directory`, with an environment that has nothing of the tests'.
    pub(crate) fn posada(&self, home: &Path, directory: &Path) -> Command {
        self.command(&place::binary(), home, directory)
    }

    /// Any program, run as [`Self::posada`] is.
    pub(crate) fn command(&self, program: &Path, home: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", home.parent().unwrap_or(home))
            .env("LANG", "C.UTF-8")
            .env("POSADA_HOME", home)
            .stdin(Stdio::null());
        if let Some(trace) = std::env::var_os("RUST_BACKTRACE") {
            command.env("RUST_BACKTRACE", trace);
        }
        if let Self::Ordinary(user) = self {
            user.become_by(&mut command);
        }
        command
    }
}

/// A home and a project of a test's own. Dropping it destroys its machines.
pub struct Sandbox {
    caller: Caller,
    root: Option<TempDir>,
    home: PathBuf,
    project: PathBuf,
    temp: PathBuf,
}

impl Sandbox {
    /// One of root's, with the shared box in its store and no Vmfile yet.
    #[must_use]
    pub fn new() -> Self {
        place::needs_root();
        let sandbox = Self::bare(Caller::Root);
        sandbox.share_boxes();
        sandbox
    }

    /// One of an ordinary user's, with the shared box in its store and no Vmfile yet.
    #[must_use]
    pub fn rootless(user: &Ordinary) -> Self {
        let sandbox = Self::bare(Caller::Ordinary(user.clone()));
        sandbox.share_boxes();
        sandbox
    }

    /// One without a box.
    ///
    /// # Panics
    /// Where the cache cannot be written.
    #[must_use]
    pub fn bare(caller: Caller) -> Self {
        let parent = caller.cache().join("s");
        open_folder(&parent);
        Self::below(caller, &parent)
    }

    /// One without a box, whose files are below `parent`.
    ///
    /// # Panics
    /// Where that cannot be written.
    #[must_use]
    pub fn below(caller: Caller, parent: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("").rand_bytes(6).tempdir_in(parent).expect("a folder");
        open_folder(root.path());
        caller.own(root.path());
        let folder = |name: &str| {
            let path = root.path().join(name);
            open_folder(&path);
            caller.own(&path);
            path
        };
        let (home, project, temp) = (folder("home"), folder("project"), folder("tmp"));
        Self { caller, home, project, temp, root: Some(root) }
    }

    /// As [`Sandbox::new`], with this Vmfile.
    #[must_use]
    pub fn with(vmfile: &str) -> Self {
        let sandbox = Self::new();
        sandbox.vmfile(vmfile);
        sandbox
    }

    fn share_boxes(&self) {
        let store = boxes::store(&self.caller);
        std::os::unix::fs::symlink(store, self.home.join("boxes")).expect("a link to the shared boxes");
    }

    /// The project's folder.
    #[must_use]
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// Posada's home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder that holds all of it.
    ///
    /// # Panics
    /// Never: the folder lives as long as the sandbox.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.as_ref().expect("the folder is there until the sandbox is dropped").path()
    }

    /// Writes the Vmfile.
    pub fn vmfile(&self, text: &str) {
        self.file("Vmfile", text);
    }

    /// Writes a file below the project's folder; it belongs to the caller.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.project.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent).expect("its folder can be made");
            self.caller.own(parent);
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.caller.own(&path);
        path
    }

    /// posada as a command that has not been run, in the project's folder.
    #[must_use]
    pub fn posada(&self) -> Command {
        let mut command = self.caller.posada(&self.home, &self.project);
        command.env("TMPDIR", &self.temp);
        command
    }

    /// Another program of the host, run as posada is.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        self.caller.command(Path::new(program), &self.home, &self.project)
    }

    /// Runs posada to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.posada(), arguments)
    }

    /// Runs posada, which must succeed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Outcome {
        self.run(arguments).ok()
    }

    /// Runs posada with `input` as its standard input.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.posada();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("posada can be started");
        let mut stdin = child.stdin.take().expect("its standard input is a pipe");
        let input = input.to_owned();
        // posada may end without having read it all.
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("its output can be read");
        drop(writer.join().expect("the writer does not panic"));
        Outcome::new(words(arguments), &output, began.elapsed())
    }

    /// Starts posada and does not wait for it.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.posada();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let child = command.spawn().expect("posada can be started");
        Running { child, began, command: words(arguments) }
    }

    /// Runs a command in the machine over SSH; what it printed on standard output, without its last newline.
    #[track_caller]
    pub fn inside(&self, command: &str) -> String {
        self.inside_of(None, command)
    }

    /// Runs a command in one of several machines.
    #[track_caller]
    pub fn inside_of(&self, machine: Option<&str>, command: &str) -> String {
        let mut arguments = vec!["ssh"];
        arguments.extend(machine);
        arguments.extend(["-c", command]);
        self.ok(&arguments).stdout.trim_end_matches('\n').to_owned()
    }

    /// A machine's state as `posada status` tells it; `None` where it tells none.
    #[must_use]
    #[track_caller]
    pub fn state(&self, machine: &str) -> Option<String> {
        let events = self.ok(&["status", "--json"]).events();
        let told =
            events.iter().find(|event| event["event"] == "machine_status" && event["name"] == machine)?;
        Some(told["state"].as_str()?.to_owned())
    }

    /// The folders of the machines that Posada keeps.
    #[must_use]
    pub fn machine_folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.home.join("machines")) else { return Vec::new() };
        let mut folders: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("machine.json").exists())
            .collect();
        folders.sort();
        folders
    }

    /// The folder of the only machine.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn machine_folder(&self) -> PathBuf {
        let folders = self.machine_folders();
        assert_eq!(folders.len(), 1, "one machine is expected: {folders:?}");
        folders[0].clone()
    }

    /// The identity of the only machine: `default-3f9a1c20`.
    #[must_use]
    #[track_caller]
    pub fn machine_id(&self) -> String {
        self.machine_folder().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What is left in the temporary folder that posada was given.
    #[must_use]
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.temp)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    }

    /// The values of one field of the events that `arguments` with `--json` gives.
    #[must_use]
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        self.ok(&with_json).events()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let mut kept = Vec::new();
        for folder in self.machine_folders() {
            let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let outcome = self.run(&["destroy", "--force", "--id", &id]);
            if outcome.code != 0 {
                kept.push(outcome);
            }
        }
        if let Some(root) = self.root.take() {
            if std::thread::panicking() && std::env::var_os("POSADA_TEST_KEEP").is_some() {
                let _ = root.keep();
                return;
            }
            if let Err(error) = root.close() {
                assert!(std::thread::panicking(), "the sandbox cannot be removed: {error}");
            }
        }
        assert!(
            kept.is_empty() || std::thread::panicking(),
            "machines could not be destroyed:\n{}",
            kept.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
}

/// A posada that runs.
pub struct Running {
    child: Child,
    began: Instant,
    command: String,
}

impl Running {
    /// Its process id.
    ///
    /// # Panics
    /// Never: process ids fit.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Its child process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).expect("posada runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where its output cannot be read.
    #[must_use]
    pub fn wait(self) -> Outcome {
        let output = self.child.wait_with_output().expect("its output can be read");
        Outcome::new(self.command, &output, self.began.elapsed())
    }
}

/// Runs `command` with `arguments` to its end.
///
/// # Panics
/// Where it cannot be started.
#[must_use]
pub fn run(mut command: Command, arguments: &[&str]) -> Outcome {
    let began = Instant::now();
    let output = command
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().to_string_lossy()));
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    Outcome::new(format!("{name} {}", arguments.join(" ")), &output, began.elapsed())
}

fn words(arguments: &[&str]) -> String {
    format!("posada {}", arguments.join(" "))
}
