//! Servers of images for LXD and Incus: `simplestreams:https://images.example.org#debian/12`.

use posada_fetch::shown;
use posada_provider_api::FaultKind;
use url::Url;

use super::{Brought, Errand, Offer, Remote, Source, stored_name, streams};
use crate::{BoxError, BoxRef, StreamRef};

/// The largest document, bytes: those of public servers have some megabytes.
const MAX_DOCUMENT: u64 = 64 << 20;

/// An image of such a server.
pub(super) struct Image<'a>(pub &'a StreamRef);

impl Image<'_> {
    fn wrong(&self, what: String) -> BoxError {
        BoxError::Repository {
            server: shown(self.0.server()),
            what,
            hint: Some("is it the URL of a simplestreams server, above `streams/v1/index.json`?".to_owned()),
            kind: FaultKind::Box,
        }
    }

    fn document(&self, url: &Url, errand: &Errand<'_>) -> Result<Vec<u8>, BoxError> {
        Ok(errand.client.get(url, Some("application/json"), MAX_DOCUMENT, errand.stop)?.bytes)
    }
}

impl Source for Image<'_> {
    fn offers(&self, errand: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        errand.progress.phase("asking the image server", None);
        let (base, image) = (self.0.server(), self.0.image());
        let name = stored_name(&BoxRef::Simplestreams(self.0.clone()));
        let index = base.join("streams/v1/index.json").map_err(|error| self.wrong(error.to_string()))?;
        let documents =
            streams::documents(&self.document(&index, errand)?, base).map_err(|what| self.wrong(what))?;
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for url in documents {
            let bytes = self.document(&url, errand)?;
            let (offers, more) =
                streams::offers(&bytes, base, image, &name).map_err(|what| self.wrong(what))?;
            found.extend(offers);
            others.extend(more);
        }
        if found.is_empty() {
            others.truncate(20);
            let what = format!(
                "an image `{image}` that is a `root.tar.xz`, a squashfs or a disk, and has a SHA-256"
            );
            return Err(BoxError::NotOffered { name: self.0.to_string(), what, have: others });
        }
        Ok(found)
    }

    fn bring(&self, offer: &Offer, _: &Errand<'_>) -> Result<Brought, BoxError> {
        let url = Url::parse(&offer.location).map_err(|error| self.wrong(error.to_string()))?;
        Ok(Brought::Url(Box::new(Remote::at(url, offer.checksum.clone()))))
    }
}
