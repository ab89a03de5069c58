//! Names and versions of boxes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A text that names no box, or is no version or version requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRef(pub String);

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
        let part = |p: &str| {
            !p.is_empty()
                && !p.starts_with('.')
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() <= 2 && parts.iter().all(|p| part(p)) {
            Ok(Self::Named(text.to_owned()))
        } else {
            Err(InvalidRef(format!(
                "`{text}` is no box: write a name such as `debian/12`, or a path that starts with `/` or `./`"
            )))
        }
    }
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

/// A version of a box: dot-separated numbers and words, compared piece by piece as Vagrant does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

/// A requirement on versions: `>= 12.1, < 13`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionReq(String);

impl Version {
    /// Takes a version.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        Ok(Self(text.to_owned()))
    }
}

impl VersionReq {
    /// Takes a requirement.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        Ok(Self(text.to_owned()))
    }
}
