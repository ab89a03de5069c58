//! Lines of `/etc/environment`, which pam_env(8) reads.

use std::collections::BTreeMap;

/// The lines, and the names of variables that the file's format cannot hold.
pub(super) fn lines(env: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let (fit, odd): (Vec<_>, Vec<_>) = env.iter().partition(|(name, value)| fits(name, value));
    (
        fit.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect(),
        odd.into_iter().map(|(name, _)| name.clone()).collect(),
    )
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
        let env =
            [("PATH_2", "/a:/b c=d $x"), ("A B", "x"), ("Q", "\""), ("2A", "x"), ("N", "a\n# posada: end")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (lines, left_out) = lines(&env);
        assert_eq!(lines, ["PATH_2=\"/a:/b c=d $x\""]);
        assert_eq!(left_out, ["2A", "A B", "N", "Q"]);
    }
}
