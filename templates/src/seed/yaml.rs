//! Text as a YAML scalar that every reader takes for the same text.

use std::fmt::Write;

/// `text` in double quotes (YAML 1.2 §7.3.1), in ASCII alone: YAML 1.1, which cloud-init reads, breaks lines at more
/// characters than 1.2, and refuses some that JSON leaves as they are.
fn quoted(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        let written = match c {
            '"' | '\\' => {
                result.push('\\');
                result.push(c);
                Ok(())
            }
            '\n' => result.write_str("\\n"),
            ' '..='~' => result.write_char(c),
            _ if code <= 0xff => write!(result, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(result, "\\u{code:04x}"),
            _ => write!(result, "\\U{code:08x}"),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    result.push('"');
    result
}

/// [`quoted`] as a filter.
pub(crate) fn yaml_filter(text: &str, _: tera::Kwargs, _: &tera::State) -> String {
    quoted(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back(text in prop_oneof![any::<String>(), "[\\x00-\\x20\"'\\\\:#{}\u{7f}-\u{a0}\u{2028}\u{feff}]{0,20}"]) {
            let quoted = quoted(&text);
            prop_assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let read: Vec<String> = serde_yaml::from_str(&format!("- {quoted}\n")).unwrap();
            prop_assert_eq!(read, [text]);
        }
    }
}
