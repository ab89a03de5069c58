//! Entries for the fuzz targets in `fuzz/`, which the property tests call too: each takes any bytes, and must return.

use url::Url;

use crate::{Algorithm, Checksum, Sums, shown};

/// A file of checksums.
///
/// # Panics
/// Where a checksum is taken of a file whose name the text does not hold.
pub fn sums(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let sums = Sums::parse(&text);
    let alone = Algorithm::ALL.into_iter().any(|algorithm| Checksum::new(algorithm, text.trim()).is_ok());
    assert!(alone || sums.of("a.box").is_none() || text.contains("a.box"));
}

/// A journal that somebody else wrote.
pub fn journal(bytes: &[u8]) {
    crate::download::read_journal(bytes);
}

/// What headers of an answer say: which part of a file comes, when to come again, where to go; and checksums.
///
/// # Panics
/// Where a part is not in its file, a checksum is another one once it was written, or a URL is shown with its secrets.
pub fn response(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some((first, size)) = crate::download::content_range(&text) {
        assert!(first < size);
    }
    let _ = crate::client::retry_after(&text);
    if let Ok(checksum) = text.parse::<Checksum>() {
        assert_eq!(checksum.to_string().parse(), Ok(checksum));
    }
    if let Ok(url) = Url::parse(&text)
        && let Ok(seen) = Url::parse(&shown(&url))
    {
        let secrets = (seen.username(), seen.password(), seen.query(), seen.fragment());
        assert_eq!(secrets, ("", None, None, None));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_is_read_or_not(
            text in "(bytes |https://|md5:|s3:|[0-9]{1,20})[a-f0-9@:/?#*-]{0,40}"
        ) {
            super::response(text.as_bytes());
        }
    }
}
