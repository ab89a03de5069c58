//! A file on a web server, as a distribution publishes it.

use posada_fetch::{Checksum, FetchError, Sums};

use super::{Brought, Errand, Offer, Source, stored_name};
use crate::{BoxError, BoxRef, UrlRef, Version};

/// Files of checksums that lie beside what they are of, the strongest first.
const SUMS: [&str; 2] = ["SHA512SUMS", "SHA256SUMS"];
const MAX_SUMS: u64 = 4 << 20;

/// A file on a web server. It is its own only version.
pub(super) struct WebFile(pub UrlRef);

impl Source for WebFile {
    fn offers(&self, _: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        Ok(vec![Offer {
            name: stored_name(&BoxRef::Url(self.0.clone())),
            version: Version::parse("0").map_err(|error| BoxError::Name(error.to_string()))?,
            provider: None,
            architecture: None,
            default_architecture: true,
            location: String::new(),
            checksum: self.0.checksum().cloned(),
            signature: None,
        }])
    }

    fn bring(&self, _: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError> {
        let checksum = match self.0.checksum() {
            Some(checksum) => Some(checksum.clone()),
            None => self.published(errand)?,
        };
        Ok(Brought::Url(self.0.url().clone(), checksum))
    }
}

impl WebFile {
    /// The checksum that a file beside it gives.
    fn published(&self, errand: &Errand<'_>) -> Result<Option<Checksum>, BoxError> {
        errand.progress.phase("looking for checksums", None);
        for name in SUMS {
            let Ok(mut url) = self.0.url().join(name) else { continue };
            url.set_query(self.0.url().query());
            match errand.client.get(&url, None, MAX_SUMS, errand.stop) {
                Ok(document) => {
                    let text = String::from_utf8_lossy(&document.bytes);
                    if let Some(checksum) = Sums::parse(&text).of(self.0.file_name()) {
                        return Ok(Some(checksum.clone()));
                    }
                }
                // There is none, which object stores call forbidden.
                Err(
                    FetchError::NotFound { .. } | FetchError::Refused { .. } | FetchError::TooLarge { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}
