//! What came of a command.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The words of the command.
    pub command: String,
    /// Its exit status as a shell counts: 128 and more for signals.
    pub code: i32,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Takes what the process left.
    #[must_use]
    pub fn new(command: String, output: &Output, took: Duration) -> Self {
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            command,
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        }
    }

    /// Itself, where it ended with 0.
    ///
    /// # Panics
    /// Where it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended_with(0)
    }

    /// Itself, where it ended with `code`.
    ///
    /// # Panics
    /// Where it did not.
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "wrong exit status\n{self}");
        self
    }

    /// Itself, where `needle` stands in what it printed, on either stream.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn says(self, needle: &str) -> Self {
        assert!(self.mentions(needle), "`{needle}` is not said\n{self}");
        self
    }

    /// Whether `needle` stands in what it printed.
    #[must_use]
    pub fn mentions(&self, needle: &str) -> bool {
        self.stdout.contains(needle) || self.stderr.contains(needle)
    }

    /// The events of a `--json` run: every line of standard output.
    ///
    /// # Panics
    /// Where a line is not a JSON object with an `event`.
    #[must_use]
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("no JSON: {error}: `{line}`\n{self}"));
                assert!(value["event"].is_string(), "a line without `event`: `{line}`\n{self}");
                value
            })
            .collect()
    }

    /// The events of one kind.
    #[must_use]
    #[track_caller]
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr, took } = self;
        write!(f, "$ {command}\nexit {code} after {took:.2?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}
