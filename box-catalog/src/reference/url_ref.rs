//! A box on a web server.

use std::fmt;
use std::hash::{Hash, Hasher};

use posada_fetch::{Checksum, shown};
use url::Url;

use super::InvalidRef;

/// The URL of a file, and what its content has to come to: `https://example.org/a.box#sha256=…`.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlRef {
    url: Url,
    checksum: Option<Checksum>,
}

impl UrlRef {
    /// Takes the text of one.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        // The text may hold a password, so it is not repeated.
        let mut url =
            Url::parse(text).map_err(|error| InvalidRef(format!("this is no URL of a box: {error}")))?;
        if url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().is_empty() {
            return Err(InvalidRef(format!(
                "`{}` names no file: write the whole URL, such as `https://example.org/debian.box`",
                shown(&url)
            )));
        }
        let checksum = match url.fragment() {
            None => None,
            Some(fragment) => Some(checksum(fragment)?),
        };
        url.set_fragment(None);
        Ok(Self { url, checksum })
    }

    /// Where the file is, without a fragment.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What its content has to come to, where the reference says so.
    #[must_use]
    pub fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// The last part of the path, as it is written there.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.url.path().rsplit('/').next().unwrap_or_default()
    }
}

pub(super) fn checksum(fragment: &str) -> Result<Checksum, InvalidRef> {
    fragment.parse().map_err(|error| {
        InvalidRef(format!("`#` is not followed by a checksum: {error}; write `#sha256=` and its digits"))
    })
}

impl Hash for UrlRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.url.hash(state);
    }
}

/// Without what may be secret.
impl fmt::Display for UrlRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.url).fmt(f)
    }
}

impl fmt::Debug for UrlRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The whole of it.
impl From<UrlRef> for String {
    fn from(value: UrlRef) -> Self {
        match value.checksum {
            Some(checksum) => format!("{}#{checksum}", value.url),
            None => value.url.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_may_follow() {
        let hex = "ab".repeat(32);
        let parsed = UrlRef::parse(&format!("https://h/a/b.qcow2?v=1#SHA-256={hex}")).unwrap();
        assert_eq!(parsed.url().as_str(), "https://h/a/b.qcow2?v=1");
        assert_eq!(parsed.file_name(), "b.qcow2");
        assert_eq!(parsed.checksum().unwrap().to_string(), format!("sha256:{hex}"));
        for bad in ["#x", "#sha256=", "#sha256=12", "#crc=00", "#"] {
            assert!(UrlRef::parse(&format!("https://h/a{bad}")).is_err(), "{bad}");
        }
        assert!(UrlRef::parse("https://h/").is_err());
    }

    #[test]
    fn a_password_is_neither_shown_nor_repeated_in_errors() {
        let parsed = UrlRef::parse("https://me:hunter2@h/a.box?token=hunter2").unwrap();
        assert!(!format!("{parsed} {parsed:?}").contains("hunter2"));
        assert!(String::from(parsed).contains("hunter2"));
        let refused = UrlRef::parse("https://me:hunter2@h:99999/a").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
