//! A directory of its own for each test, and posada run in it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use snapbox::cmd::OutputAssert;

/// A project directory and a home that nobody else has.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("project")).unwrap();
        Self(dir)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join("project").join(file)
    }

    /// Where Posada keeps what it has.
    pub fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn binary(&self) -> &'static str {
        env!("CARGO_BIN_EXE_posada")
    }

    /// Posada with these words, in an environment that is always the same.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.args(words).current_dir(self.path(""));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.0.path()).env("POSADA_HOME", self.home());
        command
    }

    pub fn posada(&self, words: &[&str]) -> OutputAssert {
        self.posada_in("", words)
    }

    pub fn posada_in(&self, dir: &str, words: &[&str]) -> OutputAssert {
        let mut command = self.command(words);
        command.current_dir(self.path(dir));
        snapbox::cmd::Command::from_std(command).assert()
    }

    /// What it printed on standard output.
    pub fn text(&self, ended: OutputAssert) -> String {
        String::from_utf8(ended.get_output().stdout.clone()).unwrap()
    }

    /// What it printed on standard error.
    pub fn errors(&self, ended: OutputAssert) -> String {
        String::from_utf8(ended.get_output().stderr.clone()).unwrap()
    }

    /// The JSON lines it printed; there must be nothing else.
    pub fn events(&self, ended: OutputAssert) -> Vec<Value> {
        let output = ended.get_output();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "JSON lines are all there is");
        parse(&output.stdout)
    }
}

/// JSON lines, each of which has its `event`, first.
pub fn parse(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| {
            assert!(line.starts_with("{\"event\":\""), "{line}");
            serde_json::from_str(line).unwrap()
        })
        .collect()
}
