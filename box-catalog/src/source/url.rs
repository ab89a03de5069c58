//! A file on a web server, as a distribution publishes it.

use posada_fetch::Checksum;

use super::{Brought, Errand, Offer, Remote, Source, beside, stored_name};
use crate::{BoxError, BoxRef, UrlRef, Version};

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
            manifest: None,
        }])
    }

    fn bring(&self, _: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError> {
        let checksum = match self.0.checksum() {
            Some(checksum) => Some(checksum.clone()),
            None => self.published(errand)?,
        };
        Ok(Brought::Url(Box::new(Remote::at(self.0.url().clone(), checksum))))
    }
}

impl WebFile {
    /// The checksum that a file beside it gives.
    fn published(&self, errand: &Errand<'_>) -> Result<Option<Checksum>, BoxError> {
        errand.progress.phase("looking for checksums", None);
        beside::checksum(self.0.file_name(), |name| {
            let Ok(mut url) = self.0.url().join(name) else { return Ok(None) };
            url.set_query(self.0.url().query());
            beside::web(errand.client, &url, beside::MAX_SUMS, errand.stop)
        })
    }
}
