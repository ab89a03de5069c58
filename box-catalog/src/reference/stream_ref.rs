//! An image of a server for LXD and Incus.

use std::fmt;

use url::Url;

use super::InvalidRef;

/// A server and one of its images: what follows `simplestreams:`, as in `https://images.example.org#debian/12`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamRef {
    server: Url,
    image: String,
}

impl StreamRef {
    /// Takes the text of one.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        let wrong = |what: &str| {
            InvalidRef(format!(
                "this names no image of a simplestreams server: {what}; write `simplestreams:https://images.example.org#debian/12`"
            ))
        };
        // The text may hold a password, so it is not repeated.
        let mut server = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(server.scheme(), "http" | "https") || server.host().is_none() {
            return Err(wrong("its server is no web server"));
        }
        if !server.username().is_empty() || server.password().is_some() {
            return Err(wrong("a URL is no place for secrets"));
        }
        let image = server.fragment().unwrap_or_default().to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._:+-".contains(c);
        if image.is_empty() || !image.chars().all(plain) {
            return Err(wrong("after `#` has to come an alias of the image, or its product"));
        }
        server.set_fragment(None);
        server.set_query(None);
        if !server.path().ends_with('/') {
            let path = format!("{}/", server.path());
            server.set_path(&path);
        }
        Ok(Self { server, image })
    }

    /// The server, with a slash at its end.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// What the image is called there.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }
}

impl fmt::Display for StreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.server.as_str();
        // Of several slashes at its end, each means something.
        let server = whole.strip_suffix('/').filter(|bare| !bare.ends_with('/')).unwrap_or(whole);
        write!(f, "{server}#{}", self.image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_and_an_image_are_told_apart() {
        let one = StreamRef::parse("https://images.example.org/sub#debian/12").unwrap();
        assert_eq!((one.server().as_str(), one.image()), ("https://images.example.org/sub/", "debian/12"));
        assert_eq!(one.to_string(), "https://images.example.org/sub#debian/12");
        assert_eq!(StreamRef::parse(&one.to_string()), Ok(one));
        for text in ["https://h//#a", "https://h/a//#a", "https://h#a"] {
            let one = StreamRef::parse(text).unwrap();
            assert_eq!(one.to_string(), text);
            assert_eq!(StreamRef::parse(&one.to_string()), Ok(one));
        }
        for bad in [
            "",
            "https://h",
            "https://h#",
            "https://h/debian/12",
            "ftp://h#a",
            "https://u:p@h#a",
            "https://h#a b",
        ] {
            let why = StreamRef::parse(bad).unwrap_err().to_string();
            assert!(why.contains("simplestreams:https://") && !why.contains("u:p"), "{bad}: {why}");
        }
    }
}
