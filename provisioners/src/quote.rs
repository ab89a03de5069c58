//! Quoting for the machine's shells.

/// Makes one word of `text` that every POSIX shell, and fish, reads back as `text`. NUL cannot be quoted; the
/// caller refuses it before.
#[must_use]
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            // fish reads `\\` and `\'` inside single quotes as one character: both stand outside of them.
            '\'' | '\\' => {
                out.push_str("'\\");
                out.push(c);
                out.push('\'');
            }
            _ => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Whether `name` can name an environment variable in every shell (POSIX.1-2017, Base Definitions, 3.235).
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_words_stay_plain() {
        assert_eq!(word("/usr/bin/env"), "/usr/bin/env");
        assert_eq!(word(""), "''");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(r"a\"), r"'a'\\''");
        assert_eq!(word("~"), "'~'");
    }

    #[test]
    fn variable_names() {
        for good in ["A", "_", "PATH_2"] {
            assert!(is_variable_name(good), "{good}");
        }
        for bad in ["", "2A", "A-B", "A=B", "A B", "\u{c4}"] {
            assert!(!is_variable_name(bad), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_reads_back_what_was_quoted(
            words in prop::collection::vec("([ -~\n\t\r\u{1}-\u{1f}\u{e4}\u{20ac}]|[^\0]){0,20}", 1..5)
        ) {
            let script = format!("printf '%s\\0' {}", words.iter().map(|w| word(w)).collect::<Vec<_>>().join(" "));
            for shell in ["sh", "bash"] {
                let out = Command::new(shell).arg("-c").arg(&script).output().unwrap();
                let mut want = words.join("\0").into_bytes();
                want.push(0);
                prop_assert_eq!(&out.stdout, &want);
            }
        }
    }
}
