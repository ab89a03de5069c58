//! A YAML document as a tree of nodes that know where they stand.

use std::ops::Range;
use std::rc::Rc;

/// A node. Aliases share the node that their anchor names.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands, in bytes.
    pub(super) span: Range<usize>,
    pub(super) value: Value,
    /// How many nodes it is with all aliases written out; long texts count as several.
    pub(super) weight: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    /// Entries in file order, merge keys resolved, every key once.
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Scalar {
    /// The text, escapes and folding undone.
    pub(super) text: String,
    /// Whether it stands without quotes, so that `true` and `5` mean what they look like.
    pub(super) plain: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Rc<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl Node {
    /// Whether nothing was written, or `null`, or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

impl Scalar {
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The truth value, where the YAML 1.2 core schema sees one.
    pub(super) fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// Whether the YAML 1.2 core schema sees a number.
    pub(super) fn is_number(&self) -> bool {
        if !self.plain {
            return false;
        }
        let digits = self.text.trim_start_matches(['-', '+']);
        let based = |prefix: &str, base: u32| {
            digits.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(base)))
        };
        based("0x", 16)
            || based("0o", 8)
            || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
            || (digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && digits.contains(|c: char| c.is_ascii_digit())
                && digits.parse::<f64>().is_ok())
    }

    /// What it is, for people: `the number 5`, `the text "web"`.
    pub(super) fn describe(&self) -> String {
        if self.is_null() {
            return "nothing".to_owned();
        }
        let shown = shorten(&self.text);
        if self.as_bool().is_some() {
            format!("`{shown}`")
        } else if self.is_number() {
            format!("the number `{shown}`")
        } else {
            format!("the text `{shown}`")
        }
    }
}

/// `text` on one line and short enough for a message.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 48;
    let line = text.trim_end().split('\n').next().unwrap_or_default();
    let cut: String = line.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if cut.len() < text.trim_end().len() { format!("{}…", cut.trim_end()) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn plain_scalars_are_read_as_yaml_1_2_does() {
        for number in ["1", "-3", "+12", "0x1f", "0o17", "1.5", ".5", "1e3", "0755", ".inf"] {
            assert!(plain(number).is_number(), "{number}");
        }
        for text in ["", "1.2.3", "8080:80", "1_000", "infinity", "nan", "0x", "e5", ".", "-", "12a"] {
            assert!(!plain(text).is_number(), "{text}");
        }
        assert_eq!(plain("True").as_bool(), Some(true));
        assert_eq!(plain("yes").as_bool(), None);
        assert!(plain("~").is_null());
        assert!(!Scalar { text: String::new(), plain: false }.is_null());
    }

    #[test]
    fn values_are_described_on_one_short_line() {
        assert_eq!(plain("5").describe(), "the number `5`");
        assert_eq!(plain("one\ntwo").describe(), "the text `one…`");
        assert_eq!(shorten(&"x".repeat(100)).chars().count(), 49);
    }
}
