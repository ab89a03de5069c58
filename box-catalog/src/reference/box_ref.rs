//! What a Vmfile's `box` may say.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::InvalidRef;

/// The longest name of a box, bytes: it becomes part of file names.
const MAX_NAME: usize = 128;

/// What a Vmfile's `box` says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BoxRef {
    /// A box known by name: `debian/12`.
    Named(String),
    /// A file on this host: starts with `/`, `./`, `../` or `~/`.
    File(PathBuf),
}

impl BoxRef {
    /// Takes a reference.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        if ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start)) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let parts: Vec<&str> = text.split('/').collect();
        if text.len() <= MAX_NAME && parts.len() <= 2 && parts.iter().all(|part| is_part(part)) {
            Ok(Self::Named(text.to_owned()))
        } else {
            Err(InvalidRef(format!(
                "`{text}` is no box: write a name such as `debian/12`, or a path that starts with `/` or `./`"
            )))
        }
    }
}

/// One side of the slash: letters, digits, `.`, `_` and `-`, and neither `.` nor `-` first.
fn is_part(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.bytes().next().is_some_and(|first| first != b'.' && first != b'-')
}

impl fmt::Display for BoxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.pad(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl TryFrom<String> for BoxRef {
    type Error = InvalidRef;
    fn try_from(text: String) -> Result<Self, InvalidRef> {
        Self::parse(&text)
    }
}

impl From<BoxRef> for String {
    fn from(value: BoxRef) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_told_apart() {
        for name in ["debian/12", "web", "Team_1/box.v2-a", "a"] {
            assert_eq!(BoxRef::parse(name), Ok(BoxRef::Named(name.to_owned())));
        }
        for path in ["/srv/a.tar.zst", "./a.box", "../a b.tar", "~/x"] {
            assert_eq!(BoxRef::parse(path), Ok(BoxRef::File(PathBuf::from(path))));
        }
        let long = "x".repeat(200);
        for bad in ["", "/..", "a/b/c", "a//b", ".a/b", "a/..", "-f", "a b", "debian:12", "ä/b", "a/", &long]
        {
            assert!(
                BoxRef::parse(bad).is_err() || matches!(BoxRef::parse(bad), Ok(BoxRef::File(_))),
                "{bad} must not be a name"
            );
        }
    }

    #[test]
    fn references_round_trip_as_text() {
        for text in ["debian/12", "./a.box"] {
            let value = BoxRef::parse(text).unwrap();
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<BoxRef>(&json).unwrap(), value);
        }
        assert!(serde_json::from_str::<BoxRef>("\"a b\"").is_err());
    }
}
