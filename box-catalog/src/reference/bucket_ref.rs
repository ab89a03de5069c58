//! A box in a bucket of an object store.

use std::fmt;
use std::hash::{Hash, Hasher};

use posada_fetch::Checksum;
use url::Url;

use super::{InvalidRef, url_ref};

/// A place in a bucket of an object store that speaks S3: `s3://bucket/web.box#sha256=…`, `s3://bucket/team/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRef {
    bucket: String,
    key: String,
    checksum: Option<Checksum>,
}

impl BucketRef {
    /// Takes the text of one.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        let wrong = |why: &str| InvalidRef(format!("`{text}` names no box: {why}"));
        let rest = text.strip_prefix("s3://").ok_or_else(|| wrong("it does not start with `s3://`"))?;
        let (rest, checksum) = match rest.split_once('#') {
            None => (rest, None),
            Some((rest, fragment)) => (rest, Some(url_ref::checksum(fragment)?)),
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(letters) {
            return Err(wrong("a bucket has 3 to 63 lower-case letters, digits, `.` and `-`"));
        }
        let segments = key.trim_end_matches('/').split('/');
        let usable = |segment: &str| !["", ".", ".."].contains(&segment);
        if !key.is_empty() && !segments.into_iter().all(usable) || key.contains(['?', '%', '\\']) {
            return Err(wrong(
                "between slashes stands something, not `.` or `..`, and without `?`, `%` and `\\`",
            ));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), checksum })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What stands behind it, without a slash before it: an object's name, or what the names of several start with.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What its content has to come to, where the reference says so.
    #[must_use]
    pub fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// Whether it names one object: it has a checksum, or ends as files do (`.box`, `.tar.zst`) and versions do not.
    #[must_use]
    pub fn is_file(&self) -> bool {
        let extension = self.key.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        let letters = |text: &str| text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
        self.checksum.is_some() || extension.is_some_and(|(_, extension)| letters(extension))
    }

    /// What `key` below it is called.
    #[must_use]
    pub(crate) fn below(&self, key: &str) -> String {
        match self.key.trim_end_matches('/') {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// The same bucket, at `key`.
    #[must_use]
    pub(crate) fn at(&self, key: &str) -> Self {
        Self { bucket: self.bucket.clone(), key: key.to_owned(), checksum: None }
    }

    /// The whole of it as a URL, without a checksum.
    ///
    /// # Errors
    /// [`InvalidRef`].
    pub(crate) fn url(&self) -> Result<Url, InvalidRef> {
        Url::parse(&self.to_string()).map_err(|error| InvalidRef(format!("`{self}` is no URL: {error}")))
    }
}

impl Hash for BucketRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.bucket, &self.key).hash(state);
    }
}

/// Without the checksum.
impl fmt::Display for BucketRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The whole of it.
impl From<BucketRef> for String {
    fn from(value: BucketRef) -> Self {
        match &value.checksum {
            Some(checksum) => format!("{value}#{checksum}"),
            None => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_a_key_and_a_checksum_are_told_apart() {
        let hex = "ab".repeat(32);
        let parsed = BucketRef::parse(&format!("s3://boxes/team/web.box#sha256={hex}")).unwrap();
        assert_eq!((parsed.bucket(), parsed.key()), ("boxes", "team/web.box"));
        assert_eq!(parsed.checksum().unwrap().to_string(), format!("sha256:{hex}"));
        assert_eq!(parsed.to_string(), "s3://boxes/team/web.box");
        assert_eq!(BucketRef::parse(&String::from(parsed.clone())), Ok(parsed));
        let file = |text: &str| BucketRef::parse(&format!("s3://boxes/{text}")).unwrap().is_file();
        assert!(file("a/web.box") && file("web-1.0.tar.zst") && file(&format!("web#sha256={hex}")));
        assert!(!file("team/web") && !file("team.x/") && !file("web-1.0") && !file(""));
        for (text, key) in [("s3://boxes", ""), ("s3://boxes/", ""), ("s3://boxes/team/", "team/")] {
            assert_eq!(BucketRef::parse(text).unwrap().key(), key, "{text}");
        }
        for bad in [
            "s3://",
            "s3:///a",
            "s3://No/a",
            "s3://ab/x",
            "s3://boxes/a//b",
            "s3://boxes/../b",
            "s3://boxes/a/.",
            "s3://boxes/a?x",
            "s3://boxes/a%2fb",
            "s3://boxes/a#sha256=1",
            "s3://me:secret@boxes/a",
        ] {
            assert!(BucketRef::parse(bad).is_err(), "{bad}");
        }
    }
}
