//! Requirements on versions, with the operators and the meaning that Vagrant's `box_version` has.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidRef, Version};

/// A requirement on versions: `>= 12.1, < 13`. All parts between the commas must hold; a bare version means `=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionReq {
    text: String,
    parts: Vec<(Operator, Version)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Different,
    Greater,
    Less,
    AtLeast,
    AtMost,
    /// `~> 1.2.3`: at least `1.2.3` and below `1.3`.
    Pessimistic,
}

/// Longer ones first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Operator); 7] = [
    ("~>", Operator::Pessimistic),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("!=", Operator::Different),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

impl VersionReq {
    /// Takes a requirement.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        let text = text.trim();
        let parts = text.split(',').map(parse_part).collect::<Option<Vec<_>>>().ok_or_else(|| {
            InvalidRef(format!(
                "`{text}` is no version requirement: write versions with `=`, `!=`, `>`, `<`, `>=`, `<=` or `~>` \
                 before, and commas between, such as `>= 12.1, < 13`"
            ))
        })?;
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether `version` fulfils it.
    #[must_use]
    pub fn matches(&self, version: &Version) -> bool {
        self.parts.iter().all(|(operator, wanted)| match operator {
            Operator::Equal => version == wanted,
            Operator::Different => version != wanted,
            Operator::Greater => version > wanted,
            Operator::Less => version < wanted,
            Operator::AtLeast => version >= wanted,
            Operator::AtMost => version <= wanted,
            Operator::Pessimistic => version >= wanted && version.release() < wanted.bump(),
        })
    }

    /// The requirement as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn parse_part(part: &str) -> Option<(Operator, Version)> {
    let part = part.trim();
    let (operator, version) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| part.strip_prefix(sign).map(|rest| (*operator, rest)))
        .unwrap_or((Operator::Equal, part));
    Version::parse(version).ok().map(|version| (operator, version))
}

impl fmt::Display for VersionReq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for VersionReq {
    type Error = InvalidRef;
    fn try_from(text: String) -> Result<Self, InvalidRef> {
        Self::parse(&text)
    }
}

impl From<VersionReq> for String {
    fn from(value: VersionReq) -> String {
        value.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checked against `Gem::Requirement` of RubyGems 3.3, one per comma as Vagrant does.
    #[test]
    fn matching_is_that_of_vagrant() {
        for (requirement, yes, no) in [
            ("1.2", &["1.2", "1.2.0"][..], &["1.2.1", "1.1", "1.2.a"][..]),
            ("= 1.2", &["1.2"], &["1.3"]),
            ("!= 1.2", &["1.2.1", "1.1"], &["1.2", "1.2.0"]),
            ("> 1.2", &["1.2.1", "2"], &["1.2", "1.2.0", "1.2.rc1"]),
            ("< 1.2", &["1.1.9", "1.2.rc1"], &["1.2", "1.3"]),
            (">= 1.2", &["1.2", "1.10"], &["1.1", "1.2.b"]),
            ("<= 1.2", &["1.2", "1.2.b", "0"], &["1.2.0.1"]),
            ("~> 1.2", &["1.2", "1.2.9", "1.9"], &["2.0", "1.1", "2.0.a", "1.2.a"]),
            ("~> 1.2.3", &["1.2.3", "1.2.10"], &["1.3", "1.2.2", "1.3.a"]),
            ("~> 1", &["1", "1.9.9"], &["2", "0.9"]),
            ("~> 1.0.a", &["1.0.a", "1.0.b", "1.0", "1.5"], &["2", "0.9"]),
            ("~> 1.4.4.a", &["1.4.4.b", "1.4.9"], &["1.5", "1.4.3"]),
            (">= 12.1, < 13", &["12.1", "12.9.9"], &["13", "12.0"]),
            (">=12.1,<13,!=12.5", &["12.4"], &["12.5", "12.5.0"]),
            (">= 0", &["0", "1.a", "20261122.151500"], &["0.a"]),
        ] {
            let requirement = VersionReq::parse(requirement).unwrap();
            for version in yes {
                assert!(
                    requirement.matches(&Version::parse(version).unwrap()),
                    "{requirement} takes {version}"
                );
            }
            for version in no {
                assert!(
                    !requirement.matches(&Version::parse(version).unwrap()),
                    "{requirement} leaves {version}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for bad in ["", ",", ">= 1,", "== 1", "=> 1", ">", "~ 1", "^1", "1 2", ">= 1 < 2", "latest", "*"] {
            let fault = VersionReq::parse(bad).unwrap_err();
            assert!(fault.to_string().contains(&format!("`{}`", bad.trim())), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[=!<>~, 0-9a-z.-]{0,30}") {
            if let Ok(requirement) = VersionReq::parse(&text) {
                let again = VersionReq::parse(requirement.as_str()).unwrap();
                prop_assert_eq!(again, requirement);
            }
        }
    }
}
