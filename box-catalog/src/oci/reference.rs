//! What follows `oci:`.

use std::fmt;

use posada_fetch::{Algorithm, Checksum};
use url::Host;

/// The longest name of a repository with its registry, and the longest tag, bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
/// Which version is meant where none is named.
const LATEST: &str = "latest";

/// An image or a box in a registry: `registry.example.org/team/web:1.2`, `…@sha256:…`, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// Host, and port where one is named.
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Checksum>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`oci:{text}` names no image: {what}")]
pub struct InvalidImageRef {
    text: String,
    what: &'static str,
}

impl ImageRef {
    /// Takes what follows `oci:`.
    ///
    /// # Errors
    /// [`InvalidImageRef`].
    pub fn parse(text: &str) -> Result<Self, InvalidImageRef> {
        let bad = |what| InvalidImageRef { text: text.chars().take(MAX_NAME).collect(), what };
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|hex| {
                    let lower = !hex.bytes().any(|byte| byte.is_ascii_uppercase());
                    Checksum::new(Algorithm::Sha256, hex).ok().filter(|_| lower)
                });
                let digest = digest.ok_or_else(|| {
                    bad("behind the `@`, `sha256:` and 64 hexadecimal digits have to stand")
                })?;
                (name, Some(digest))
            }
        };
        let (registry, rest) = name.split_once('/').ok_or_else(|| {
            bad("write the registry's host, a slash, and the image: `oci:registry.example.org/team/web:1.2`")
        })?;
        let (repository, tag) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        if !is_host(registry) {
            return Err(bad("what stands before the first slash is no host of a registry"));
        }
        if name.len() > MAX_NAME || !repository.split('/').all(is_component) {
            return Err(bad(
                "names of images have lower-case letters, digits, `.`, `_` and `-`, and slashes between them",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("a tag has letters, digits, `.`, `_` and `-`, and at most 128 of them"));
        }
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }

    /// The registry: its host, and its port where one is named.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// What it is in there.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag that it has, or shall have; none where only a digest was named.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref().or_else(|| self.digest.is_none().then_some(LATEST))
    }

    /// What its manifest has to come to.
    #[must_use]
    pub fn digest(&self) -> Option<&Checksum> {
        self.digest.as_ref()
    }

    /// What its manifest is asked for by: the digest, as a tag may have moved on.
    #[must_use]
    pub fn wanted(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag().unwrap_or(LATEST).to_owned(), ToString::to_string)
    }

    /// Whether the registry is on this host, where encryption is not asked for.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match host(&self.registry) {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

/// As it was written.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// The host in `host:port`.
fn host(registry: &str) -> Option<Host> {
    let bracketed = registry.rfind(']').map_or(0, |at| at + 1);
    let end = registry[bracketed..].rfind(':').map_or(registry.len(), |at| bracketed + at);
    let port = registry[end..].strip_prefix(':');
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return None;
    }
    Host::parse(&registry[..end]).ok()
}

fn is_host(registry: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    registry.bytes().all(usable) && host(registry).is_some()
}

/// OCI distribution specification 1.1, "Pulling manifests", `<name>`.
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|first| word(*first)) && bytes.last().is_some_and(|last| word(*last));
    let separator =
        |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-');
    ends && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(separator)
}

/// The same, `<reference>` as a tag.
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn images_are_named_in_several_ways() {
        let sum = format!("sha256:{}", "ab".repeat(32));
        for (text, registry, repository, wanted) in [
            ("registry.example.org/team/web:1.2", "registry.example.org", "team/web", "1.2"),
            ("h/a", "h", "a", "latest"),
            ("127.0.0.1:5000/a/b/c-d__e:V_1", "127.0.0.1:5000", "a/b/c-d__e", "V_1"),
            ("[::1]:5000/a:1", "[::1]:5000", "a", "1"),
            (&format!("h:1/a@{sum}"), "h:1", "a", &sum),
            (&format!("h:1/a:2@{sum}"), "h:1", "a", &sum),
        ] {
            let image = ImageRef::parse(text).unwrap();
            assert_eq!(
                (image.registry(), image.repository(), &*image.wanted()),
                (registry, repository, wanted)
            );
            assert_eq!(image.to_string(), format!("oci:{text}"));
        }
    }

    #[test]
    fn what_names_no_image_is_told() {
        for bad in [
            "",
            "debian:12",
            "h/",
            "/a",
            "h/A",
            "h/a//b",
            "h/a:",
            "h/a:-1",
            "h/a/:1",
            "h:x/a",
            "h:70000/a",
            "h/a@sha256:12",
            "h/a@md5:00",
            "a b/c",
            "me:secret@h/a",
            "h/../x",
            "h/a?b",
            "h/.a",
            "h/a.",
            "h/a..b",
            "h/a___b",
            "[::1/a",
            "h%41/a",
        ] {
            assert!(ImageRef::parse(bad).is_err(), "{bad}");
        }
        let upper = format!("h/a@sha256:{}", "AB".repeat(32));
        assert!(ImageRef::parse(&upper).is_err());
    }

    #[test]
    fn this_host_is_known_by_its_names() {
        for (text, local) in [
            ("localhost/a", true),
            ("localhost:5000/a", true),
            ("127.3.0.1:80/a", true),
            ("[::1]/a", true),
            ("registry.localhost/a", true),
            ("10.0.0.1/a", false),
            ("localhost.example.org/a", false),
        ] {
            assert_eq!(ImageRef::parse(text).unwrap().is_local(), local, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[a-zA-Z0-9/:@.\\[\\]_ä-]{0,40}") {
            if let Ok(image) = ImageRef::parse(&text) {
                prop_assert_eq!(image.to_string(), format!("oci:{text}"));
            }
        }
    }
}
