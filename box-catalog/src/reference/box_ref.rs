//! What a Vmfile's `box` may say.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BucketRef, InvalidRef, StreamRef, UrlRef};
use crate::oci::ImageRef;

/// The longest name of a box, bytes: it becomes part of file names.
const MAX_NAME: usize = 128;
/// The longest reference, bytes: what servers take as a URL.
const MAX_REFERENCE: usize = 8192;

/// What a Vmfile's `box` says. The grammar is in `docs/boxes.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BoxRef {
    /// A box known by name, in the store or in a catalog: `debian/12`.
    Named(String),
    /// A file on this host: starts with `/`, `./`, `../`, `~/` or `file:///`.
    File(PathBuf),
    /// A file on a web server: `https://example.org/a.box#sha256=…`.
    Url(UrlRef),
    /// An image or artifact in an OCI registry: `oci:registry.example.org/team/web:1.2`.
    Oci(ImageRef),
    /// An image of a simplestreams server, what follows `simplestreams:`.
    Simplestreams(StreamRef),
    /// A box in a bucket of an object store: `s3://bucket/prefix`.
    Bucket(BucketRef),
    /// A box built here from a recipe, whose name or path follows `build:`.
    Build(String),
}

/// What starts the reference of a box in an object store that speaks something else than S3.
const OTHER_STORES: [&str; 3] = ["gs://", "az://", "azure://"];

impl BoxRef {
    /// Takes a reference.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        if ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start)) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') {
                true => Ok(Self::File(PathBuf::from(path))),
                false => Err(InvalidRef(format!(
                    "`{text}` names no file: write `file:///` and the rest of its path"
                ))),
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return UrlRef::parse(text).map(Self::Url);
        }
        if text.starts_with("s3://") {
            return BucketRef::parse(&of_kind("", text)?).map(Self::Bucket);
        }
        if let Some(start) = OTHER_STORES.iter().find(|start| text.starts_with(*start)) {
            return Err(InvalidRef(format!(
                "`{start}` is no box: object stores are asked by S3 here; write `s3://bucket/…`, and name the server with \
                 AWS_ENDPOINT (Google's buckets have one at https://storage.googleapis.com)"
            )));
        }
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let rest = of_kind(text, rest)?;
                let image = ImageRef::parse(&rest).map_err(|error| InvalidRef(error.to_string()))?;
                Ok(Self::Oci(image))
            }
            Some(("simplestreams", rest)) => StreamRef::parse(&of_kind(text, rest)?).map(Self::Simplestreams),
            Some(("build", rest)) => of_kind(text, rest).map(Self::Build),
            _ => named(text),
        }
    }
}

fn named(text: &str) -> Result<BoxRef, InvalidRef> {
    let parts: Vec<&str> = text.split('/').collect();
    if text.len() <= MAX_NAME && parts.len() <= 2 && parts.iter().all(|part| is_part(part)) {
        return Ok(BoxRef::Named(text.to_owned()));
    }
    let shown: String = text.chars().take(MAX_NAME).collect();
    Err(InvalidRef(format!(
        "`{shown}` is no box: write a name such as `debian/12`, a path that starts with `/` or `./`, a URL, or one of \
         `oci:`, `simplestreams:`, `s3://` and `build:` and what follows it"
    )))
}

/// What follows the word that says which kind of source it is: something, and no space or control character.
fn of_kind(text: &str, rest: &str) -> Result<String, InvalidRef> {
    let usable = |c: char| !c.is_whitespace() && !c.is_control();
    if !rest.is_empty() && rest.len() <= MAX_REFERENCE && rest.chars().all(usable) {
        return Ok(rest.to_owned());
    }
    Err(InvalidRef(format!(
        "`{}` names no box: something without spaces has to follow, such as `oci:registry.example.org/web:1.2`, \
         `simplestreams:https://images.example.org#debian/12`, `s3://bucket/web` or `build:debian/12`",
        if text.is_empty() { rest } else { text }
    )))
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
            Self::Url(url) => url.fmt(f),
            Self::Oci(image) => image.fmt(f),
            Self::Simplestreams(rest) => write!(f, "simplestreams:{rest}"),
            Self::Bucket(bucket) => bucket.fmt(f),
            Self::Build(rest) => write!(f, "build:{rest}"),
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
        match value {
            BoxRef::Url(url) => url.into(),
            BoxRef::Bucket(bucket) => bucket.into(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for bad in ["", "a/b/c", "a//b", ".a/b", "a/..", "-f", "a b", "debian:12", "ä/b", "a/", &long] {
            assert!(BoxRef::parse(bad).is_err(), "{bad} must not be a name");
        }
    }

    #[test]
    fn each_kind_of_source_is_known_by_its_start() {
        let text = |text: &str| text.to_owned();
        for (reference, kind) in [
            (
                "oci:registry.example.org/a/b:1",
                BoxRef::Oci(ImageRef::parse("registry.example.org/a/b:1").unwrap()),
            ),
            ("simplestreams:https://h#x", BoxRef::Simplestreams(StreamRef::parse("https://h#x").unwrap())),
            ("s3://bucket/a/b", BoxRef::Bucket(BucketRef::parse("s3://bucket/a/b").unwrap())),
            ("build:debian/12", BoxRef::Build(text("debian/12"))),
            ("build:./mine.yaml", BoxRef::Build(text("./mine.yaml"))),
            ("file:///srv/a.box", BoxRef::File(PathBuf::from("/srv/a.box"))),
        ] {
            assert_eq!(BoxRef::parse(reference), Ok(kind), "{reference}");
        }
        assert!(matches!(BoxRef::parse("https://h/a.box"), Ok(BoxRef::Url(_))));
        for bad in [
            "oci:",
            "oci:a b",
            "build:",
            "build:a\n",
            "simplestreams:",
            "file://h/x",
            "ftp://h/x",
            "https://",
            "gs://bucket",
            "s3://",
        ] {
            assert!(BoxRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn references_round_trip_as_text() {
        let url = "https://u:p@h/a.box#sha256=00";
        assert!(BoxRef::parse(url).is_err(), "a checksum has its whole length");
        let url = format!("https://u:p@h/a.box?x=1#md5={}", "ab".repeat(16));
        for text in ["debian/12", "./a.box", "oci:a/b:1", "s3://boxes/p", "build:debian/12", &url] {
            let value = BoxRef::parse(text).unwrap();
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<BoxRef>(&json).unwrap(), value);
        }
        assert!(serde_json::from_str::<BoxRef>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "(oci:|https://|simplestreams:https://|s3://|build:|file://|\\./)?[a-z0-9/:@#=.% ä-]{0,40}") {
            crate::fuzzing::reference(text.as_bytes());
        }
    }
}
