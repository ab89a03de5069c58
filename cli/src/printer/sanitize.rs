//! What a machine printed must not steer the user's terminal: of its escape sequences only colours pass.

/// `line` without control characters and without escape sequences, save for colours where `colors` is set.
/// A line that sets a colour ends with a reset. Tabs stay.
#[must_use]
pub fn sanitize(line: &str, colors: bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut colored = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\t' => out.push(c),
            '\u{1b}' => match rest.peek() {
                Some('[') => {
                    rest.next();
                    if let Some(parameters) = color_parameters(&mut rest)
                        && colors
                    {
                        out.push_str("\u{1b}[");
                        out.push_str(&parameters);
                        out.push('m');
                        colored = true;
                    }
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    rest.next();
                    skip_string(&mut rest);
                }
                Some(_) => {
                    // Two-character and charset sequences: intermediates, then one final character.
                    while rest.next_if(|c| (' '..='/').contains(c)).is_some() {}
                    rest.next();
                }
                None => {}
            },
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if colored {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Reads a control sequence (ECMA-48, section 5.4) behind its `ESC [`; its parameters where it sets colours.
fn color_parameters(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut parameters = String::new();
    while let Some(c) = rest.next_if(|c| (' '..='?').contains(c)) {
        parameters.push(c);
    }
    let end = rest.next_if(|c| ('@'..='~').contains(c))?;
    let plain = parameters.bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':');
    (end == 'm' && plain).then_some(parameters)
}

/// Skips a control string (ECMA-48, section 5.6) up to its BEL or `ESC \`.
fn skip_string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = rest.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_are_reset() {
        assert_eq!(sanitize("\u{1b}[1;31mred", true), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(sanitize("\u{1b}[1;31mred\u{1b}[0m", false), "red");
    }

    #[test]
    fn nothing_else_passes() {
        for (line, shown) in [
            ("\u{1b}[2Jgone", "gone"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]52;c;c2VjcmV0\u{1b}\\text", "text"),
            ("\u{1b}(Btext", "text"),
            ("\u{1b}7text\u{1b}8", "text"),
            ("\u{1b}[?25lhidden cursor", "hidden cursor"),
            ("a\u{8}b\u{7}c\rd\u{9b}e", "abcde"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
            ("\u{1b}[12", ""),
            ("one\ttwo", "one\ttwo"),
        ] {
            assert_eq!(sanitize(line, true), shown, "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_control_character_survives(line in ".*") {
            let shown = sanitize(&line, false);
            proptest::prop_assert!(shown.chars().all(|c| c == '\t' || !c.is_control()));
        }

        #[test]
        fn plain_text_stays(line in "[a-zA-Z0-9 äöü€.,;:!?-]*") {
            proptest::prop_assert_eq!(sanitize(&line, true), line);
        }
    }
}
