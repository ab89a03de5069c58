//! What boxes, versions, providers and architectures may be called: only what can be part of a path and of a URL as
//! it is.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest part of a name, bytes.
const MAX_PART: usize = 64;
/// The longest version, bytes.
const MAX_VERSION: usize = 64;
/// Namespaces that the server's own paths take.
const RESERVED: [&str; 2] = ["api", "assets"];

/// A name that is none, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

/// A provider, an architecture, or one side of a box's slash: letters, digits, `.`, `_` and `-`, and neither `.` nor `-`
/// first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part(String);

impl Part {
    /// Takes `text`.
    ///
    /// # Errors
    /// [`InvalidName`] where it cannot be one.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let sound = text.len() <= MAX_PART
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text.bytes().next().is_some_and(|first| first != b'.' && first != b'-');
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(format!(
                "`{}` is no name: letters, digits, `.`, `_` and `-` make one, at most {MAX_PART} of them",
                shown(text)
            )))
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A box: `team/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxName {
    namespace: Part,
    name: Part,
}

impl BoxName {
    /// Takes the two sides of the slash.
    ///
    /// # Errors
    /// [`InvalidName`] where they name no box.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        let made = Self { namespace: Part::parse(namespace)?, name: Part::parse(name)? };
        if RESERVED.contains(&made.namespace.as_str()) {
            return Err(InvalidName(format!("the namespace `{namespace}` is the server's own")));
        }
        Ok(made)
    }

    /// Takes `namespace/name`.
    ///
    /// # Errors
    /// [`InvalidName`] where it names no box.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| {
            InvalidName(format!("`{}` has no namespace: a server's boxes are called `team/web`", shown(text)))
        })?;
        Self::new(namespace, name)
    }

    /// What stands before the slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_str()
    }

    /// What stands behind the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// A version, as `RubyGems`, and so Vagrant, reads them: `1.2.0`, `20261126.1`, `1.0.0-rc.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionName(String);

impl VersionName {
    /// Takes `text`.
    ///
    /// # Errors
    /// [`InvalidName`] where Vagrant would not read it: one such version makes a whole catalog unreadable to it.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (release, pre) = text.split_once('-').map_or((text, None), |(release, pre)| (release, Some(pre)));
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let pre_word =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let mut parts = release.split('.');
        let first = parts.next().unwrap_or_default();
        let sound = text.len() <= MAX_VERSION
            && !first.is_empty()
            && first.bytes().all(|b| b.is_ascii_digit())
            && parts.all(word)
            && pre.is_none_or(|pre| pre.split('.').all(pre_word));
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(format!(
                "`{}` is no version: write numbers with dots between them, such as `1.2.0`",
                shown(text)
            )))
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of the two is newer, by the rule of `Gem::Version`: part by part, numbers as numbers, words before numbers.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (segments(&self.0), segments(&other.0));
        let zero = Segment::Number("");
        (0..mine.len().max(theirs.len()))
            .map(|at| mine.get(at).unwrap_or(&zero).cmp(theirs.get(at).unwrap_or(&zero)))
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// A run of letters or of digits.
#[derive(PartialEq, Eq)]
enum Segment<'a> {
    Word(&'a str),
    /// Without leading zeros: nothing is too large.
    Number(&'a str),
}

impl Ord for Segment<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Word(a), Self::Word(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Word(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Word(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Segment<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    for (at, side) in text.split('-').enumerate() {
        // `1.0-1` is `1.0.pre.1`.
        if at > 0 {
            found.push(Segment::Word("pre"));
        }
        for mut rest in side.split('.') {
            while let Some(first) = rest.bytes().next() {
                let digits = first.is_ascii_digit();
                let end = rest.bytes().position(|b| b.is_ascii_digit() != digits).unwrap_or(rest.len());
                let (run, after) = rest.split_at(end);
                found.push(if digits {
                    Segment::Number(run.trim_start_matches('0'))
                } else {
                    Segment::Word(run)
                });
                rest = after;
            }
        }
    }
    found
}

/// What somebody sent, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_PART + 16).filter(|c| !c.is_control()).collect()
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Part, BoxName, VersionName);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for BoxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_none() {
        for good in ["team/web", "a/b", "Team_1/box.v2-a"] {
            assert_eq!(BoxName::parse(good).unwrap().to_string(), good);
        }
        let long = format!("a/{}", "x".repeat(65));
        for bad in [
            "",
            "web",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            ".a/b",
            "a/-b",
            "a b/c",
            "a/b%2f",
            "a\0/b",
            "api/v1",
            "assets/style.css",
            "ä/b",
            &long,
        ] {
            assert!(BoxName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_those_that_vagrant_reads() {
        for good in ["0", "1.2.0", "20261126.1", "1.0.0-rc.1", "1.0.beta2", "12.20250126.1"] {
            assert!(VersionName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "v1", "1..2", "1.", "1/2", "1.0+build", "1_0", "-1", "1.0-", "1 .0"] {
            assert!(VersionName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_ordered_as_rubygems_does() {
        let ascending = [
            "0",
            "0.9",
            "1.0.a",
            "1.0.b1",
            "1.0.b10",
            "1.0.0-rc.1",
            "1.0.0-rc.2",
            "1.0",
            "1.0.1",
            "1.2",
            "1.10",
            "20250101.1",
        ];
        let versions: Vec<_> = ascending.iter().map(|text| VersionName::parse(text).unwrap()).collect();
        for (at, one) in versions.iter().enumerate() {
            for (before, other) in versions.iter().enumerate() {
                assert_eq!(one.compare(other), at.cmp(&before), "{one} {other}");
            }
        }
        let same = |a: &str, b: &str| VersionName::parse(a).unwrap().compare(&VersionName::parse(b).unwrap());
        assert_eq!(same("1.0", "1.0.0"), Ordering::Equal);
        assert_eq!(same("01", "1"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_one_step_of_a_path(text in ".{0,80}") {
            if let Ok(part) = Part::parse(&text) {
                let path = std::path::Path::new("/x").join(part.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/x")));
                prop_assert!(part.as_str() != "." && part.as_str() != "..");
            }
            let _ = BoxName::parse(&text);
            if let Ok(version) = VersionName::parse(&text) {
                prop_assert_eq!(version.compare(&version), Ordering::Equal);
            }
        }

        #[test]
        fn versions_have_one_order(texts in prop::collection::vec("[0-9]{1,3}(\\.[0-9a-c]{1,3}){0,3}(-[a-z0-9]{1,3})?", 3)) {
            let v: Vec<_> = texts.iter().map(|text| VersionName::parse(text).unwrap()).collect();
            prop_assert_eq!(v[0].compare(&v[1]), v[1].compare(&v[0]).reverse());
            if v[0].compare(&v[1]).is_le() && v[1].compare(&v[2]).is_le() {
                prop_assert!(v[0].compare(&v[2]).is_le());
            }
        }
    }
}
