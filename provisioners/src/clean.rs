//! Cleaning a machine that a box is about to be made of.

use posada_provider_api::{Fault, FaultKind};

use crate::adopt::INSECURE_USER;
use crate::quote;
use crate::transport::{Captured, Stdin, Transport, TransportError, capture};

/// The public half of [`crate::INSECURE_KEY`].
const INSECURE_PUBLIC_KEY: &str = include_str!("../assets/vagrant-insecure-key.pub");

/// The last line that the machine prints: without it, not all was done.
const END: &str = "posada: end";

/// Why a machine was not cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It ended before all was done.
    #[error("the machine could not be cleaned: {said}")]
    Refused {
        /// What it said last.
        said: String,
    },
}

impl CleanError {
    /// Whether it was cancelled from our side.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Transport(TransportError::Interrupted))
    }
}

impl Fault for CleanError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Transport(error) => error.kind(),
            Self::Refused { .. } => FaultKind::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(error) => error.hint(),
            Self::Refused { .. } => {
                Some("the machine's user must be able to use sudo without a password".to_owned())
            }
        }
    }
}

/// Runs the parts of a script for sh(1), one after the other, as root of the machine.
///
/// # Errors
/// [`CleanError`]: what was done until then stays done.
pub fn clean(transport: &mut dyn Transport, parts: &[&str]) -> Result<(), CleanError> {
    let script = format!(
        "set -e\ntrap '' HUP\nclean() {{\n{}\n}}\nclean </dev/null\necho {}\n",
        parts.concat(),
        quote::word(END)
    );
    let Captured { status, out, err } =
        capture(transport, "sudo -n -- sh -s", Stdin::Bytes(script.as_bytes()))?;
    if out.lines().next_back() == Some(END) {
        return Ok(());
    }
    let said = err.lines().next_back().map_or_else(|| status.to_string(), str::to_owned);
    Err(CleanError::Refused { said })
}

/// A part for machines that are let in by the key that everybody has: it opens the box again, which has host keys of its own
/// then, as nothing in it would make them.
#[must_use]
pub fn open_to_everybody() -> String {
    format!(
        "home=$(getent passwd {INSECURE_USER} | cut -d: -f6)\n\
         mkdir -p \"$home/.ssh\"\n\
         printf '%s\\n' {} >\"$home/.ssh/authorized_keys\"\n\
         chmod 700 \"$home/.ssh\"\nchmod 600 \"$home/.ssh/authorized_keys\"\n\
         chown -R {INSECURE_USER}: \"$home/.ssh\"\n\
         ssh-keygen -q -A\n",
        quote::word(INSECURE_PUBLIC_KEY.trim_end()),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_public_key_is_that_of_the_private_one() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("key");
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(crate::INSECURE_KEY.as_bytes()).unwrap();
        let told = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
        let words = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&String::from_utf8_lossy(&told.stdout)), words(INSECURE_PUBLIC_KEY));
    }
}
