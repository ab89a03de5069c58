//! Settings of a machine that are made over SSH at each of its starts, where nothing in it takes them up by itself.

use std::fmt::Write as _;

use posada_provider_api::{Fault, FaultKind};

use crate::quote;
use crate::transport::{Captured, Stdin, Transport, TransportError, capture};

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place among those that were given.
    pub index: usize,
    /// What it said last.
    pub said: String,
}

/// Why settings could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The login user does not become root.
    #[error("the machine does not take its settings: {said}")]
    NoRoot {
        /// What it said last.
        said: String,
    },
}

impl SettingsError {
    /// Whether it was cancelled from our side.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Transport(TransportError::Interrupted))
    }
}

impl Fault for SettingsError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Transport(error) => error.kind(),
            Self::NoRoot { .. } => FaultKind::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(error) => error.hint(),
            Self::NoRoot { .. } => {
                Some("the session's user must be able to use sudo without a password".to_owned())
            }
        }
    }
}

/// The last line that the machine prints: without it, not all was done.
const END: &str = "posada: end";

/// Runs `commands`, argument vectors, as root of the machine, one after the other; returns those that failed. What comes
/// after one that failed is run all the same.
///
/// # Errors
/// [`SettingsError`].
pub fn apply(transport: &mut dyn Transport, commands: &[Vec<String>]) -> Result<Vec<Refused>, SettingsError> {
    let script = script(commands);
    let Captured { status, out, err } =
        capture(transport, "sudo -n -- sh -s", Stdin::Bytes(script.as_bytes()))?;
    let mut lines: Vec<&str> = out.lines().collect();
    if lines.pop_if(|line| *line == END).is_none() {
        let said = err.lines().next_back().map_or_else(|| status.to_string(), str::to_owned);
        return Err(SettingsError::NoRoot { said });
    }
    let refused = |line: &str| {
        let (index, said) = line.split_once(' ')?;
        Some(Refused { index: index.parse().ok()?, said: said.to_owned() })
    };
    Ok(lines.into_iter().filter_map(refused).collect())
}

/// Tells a command that failed, with its last line.
const RUN: &str = r#"run() {
    index=$1
    shift
    said=$("$@" 2>&1 </dev/null) && return
    said=${said:-exit status $?}
    printf '%s %s\n' "$index" "$(printf '%s\n' "$said" | tail -n 1)"
}
"#;

/// It is read to its end before anything runs, as what runs might read from where it comes.
fn script(commands: &[Vec<String>]) -> String {
    let mut script = format!("{RUN}all() {{\n");
    for (index, command) in commands.iter().enumerate() {
        let _ = write!(script, "run {index}");
        for word in command {
            let _ = write!(script, " {}", quote::word(word));
        }
        script.push('\n');
    }
    let _ = writeln!(script, "echo '{END}'\n}}\nall");
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputStream;
    use crate::transport::{ExitStatus, Output};

    /// Runs what it is given here, where `sudo` is `$0`.
    struct Here(&'static str);

    impl Transport for Here {
        fn run(
            &mut self,
            command: &str,
            stdin: Stdin<'_>,
            output: Output<'_>,
        ) -> Result<ExitStatus, TransportError> {
            assert_eq!(command, "sudo -n -- sh -s");
            let Stdin::Bytes(script) = stdin else { panic!("a script") };
            let file = tempfile::NamedTempFile::new().unwrap();
            fs_err::write(file.path(), script).unwrap();
            let input = fs_err::File::open(file.path()).unwrap().into_file();
            let done = std::process::Command::new("sh").args(["-c", self.0]).stdin(input).output().unwrap();
            output(OutputStream::Stdout, &done.stdout);
            output(OutputStream::Stderr, &done.stderr);
            Ok(ExitStatus::Code(done.status.code().unwrap()))
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn each_is_run_and_what_failed_is_told_with_its_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("it's \"made\"\n$HOME");
        let commands = [
            words(&["sh", "-c", "echo one; echo two >&2; exit 3"]),
            words(&["cat"]),
            words(&["false"]),
            words(&["posada-no-such-command"]),
            words(&["touch", made.to_str().unwrap()]),
        ];
        let refused = apply(&mut Here("exec sh -s"), &commands).unwrap();
        let [first, second, third] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!((first.index, first.said.as_str()), (0, "two"));
        assert_eq!((second.index, second.said.as_str()), (2, "exit status 1"));
        assert!(third.index == 3 && third.said.contains("posada-no-such-command"), "{third:?}");
        assert!(made.exists());
        assert_eq!(apply(&mut Here("exec sh -s"), &[]).unwrap(), []);
    }

    #[test]
    fn who_does_not_become_root_is_told() {
        let error = apply(&mut Here("echo 'sudo: a password is required' >&2; exit 1"), &[]).unwrap_err();
        assert!(matches!(&error, SettingsError::NoRoot { said } if said.contains("password")), "{error}");
    }
}
