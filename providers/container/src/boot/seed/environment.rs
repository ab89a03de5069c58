//! The environment of login sessions: Posada's block in `/etc/environment`, which pam_env(8) reads.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{put, text, with_block};
use crate::failure::Failure;

const FILE: &str = "/etc/environment";

/// Writes it; returns which values the file's format cannot hold.
///
/// # Errors
/// [`Failure`] where it cannot be written.
pub fn write(env: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    let path = Path::new(FILE);
    let there = text(path)?;
    let (lines, odd): (Vec<_>, Vec<_>) = env.iter().partition(|(name, value)| fits(name, value));
    let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let wanted = with_block(&there, &lines);
    if wanted != there {
        put(path, &wanted, 0o644, (0, 0))?;
    }
    let told = odd.into_iter().map(|(name, _)| {
        format!("`{name}` is not in the environment of logins: {FILE} holds no line breaks, quotes or `#`")
    });
    Ok(told.collect())
}

/// Whether pam_env reads back what is written: it knows no escapes, and takes quotes and comments anywhere.
fn fits(name: &str, value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named =
        !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    named && !value.contains(['\n', '\r', '\0', '#', '"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_pam_reads_back_is_written() {
        assert!(fits("PATH_2", "/a:/b c=d $x"));
        for (name, value) in [("", "x"), ("2A", "x"), ("A B", "x"), ("A", "a\nb"), ("A", "a#b"), ("A", "\"")]
        {
            assert!(!fits(name, value), "{name}={value}");
        }
    }
}
