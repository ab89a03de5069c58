//! Amounts with their units: sizes, time spans; and the words of a command line.

use std::time::Duration;

/// Reads a size such as `512M`, `2GiB`, `1.5G`, `4096B`: K, M, G, T of 1024 each, with or without `B` or `iB`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the value.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = split_number(text).ok_or("is no size")?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => return Err("has no unit"),
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("has a unit that is none"),
    };
    scaled(number, 1 << shift).ok_or("is too large")
}

/// Reads a time span such as `500ms`, `30s`, `1.5m`, `1h`, or several of them, `1m30s`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the value.
pub(super) fn span(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text;
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err("is no time");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos = match unit {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" if number == text => return Err("has no unit"),
            _ => return Err("is no time"),
        };
        if split_number(number).is_none_or(|(_, unit)| !unit.is_empty()) {
            return Err("is no time");
        }
        total = scaled(number, nanos).and_then(|part| total.checked_add(part)).ok_or("is too long")?;
        rest = tail;
    }
    Ok(Duration::from_nanos(total))
}

/// `12.5M` to `12.5` and `M`; `None` where it begins with no decimal number.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && digits(fraction)).then_some((number, unit.trim_start()))
}

/// A decimal number times `unit`, exactly, rounded down; `None` where it does not fit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut part = 0_u128;
    let mut scale = 1_u128;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    whole.checked_add(u64::try_from(part * u128::from(unit) / scale).ok()?)
}

/// `bytes` as people write it, with the largest unit that needs no fraction.
pub(super) fn show_size(bytes: u64) -> String {
    let units: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let fitting = units.iter().find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    fitting.map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// Splits a text into words as a shell does: at blanks, with '…', "…" and backslashes, and nothing else.
///
/// # Errors
/// The quote that never closes, or a backslash with nothing behind it.
pub(super) fn words(text: &str) -> Result<Vec<String>, char> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err('\''),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err('"'),
                        },
                        Some(c) => word.push(c),
                        None => return Err('"'),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or('\\')?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("2 gb", 2 << 30),
            ("1.5G", 3 << 29),
            ("0.1K", 102),
            ("64k", 64 << 10),
            ("1T", 1 << 40),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("512", "has no unit"),
            ("1.5", "has no unit"),
            ("", "is no size"),
            ("G", "is no size"),
            ("-1G", "is no size"),
            (".5G", "is no size"),
            ("1.G", "is no size"),
            ("1..2G", "is no size"),
            ("1X", "has a unit that is none"),
            ("1G5", "has a unit that is none"),
            ("99999999999999999999G", "is too large"),
            ("18000000T", "is too large"),
        ] {
            assert_eq!(size(text), Err(why), "{text}");
        }
    }

    #[test]
    fn spans_have_units_and_add_up() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1.5h", 5_400_000),
            ("1m30s", 90_000),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, why) in [
            ("30", "has no unit"),
            ("", "is no time"),
            ("s", "is no time"),
            ("1m30", "is no time"),
            ("1d", "is no time"),
            ("-1s", "is no time"),
            ("1.2.3s", "is no time"),
            ("1 s", "is no time"),
            ("99999999999h", "is too long"),
        ] {
            assert_eq!(span(text), Err(why), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_without_fractions() {
        assert_eq!(show_size(64 << 20), "64M");
        assert_eq!(show_size(1536 << 20), "1536M");
        assert_eq!(show_size(1 << 40), "1T");
        assert_eq!(show_size(1025), "1025B");
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let split = |text| words(text).unwrap();
        assert_eq!(split("  a  b\tc\n"), ["a", "b", "c"]);
        assert_eq!(split(r#"'a b' "c \"d\" \n" e\ f ''"#), ["a b", r#"c "d" \n"#, "e f", ""]);
        assert_eq!(split("a'b'\"c\""), ["abc"]);
        assert_eq!(words("'a"), Err('\''));
        assert_eq!(words("\"a\\"), Err('"'));
        assert_eq!(words("a\\"), Err('\\'));
    }

    proptest! {
        #[test]
        fn shown_sizes_are_read_back(bytes in 0_u64..(1 << 50)) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn anything_may_be_read(text in "\\PC*") {
            let _ = (size(&text), span(&text), words(&text));
        }

        #[test]
        fn quoted_words_come_back(parts in proptest::collection::vec("[^']*", 0..5)) {
            let line = parts.iter().map(|part| format!("'{part}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line).unwrap(), parts);
        }
    }
}
