//! A catalog of boxes, as Vagrant asks one.

use posada_fetch::shown;
use posada_provider_api::FaultKind;
use url::Url;

use super::{Brought, Errand, Offer, Remote, Source, document};
use crate::{BoxError, BoxRef};

/// The largest document of a catalog, bytes.
const MAX_DOCUMENT: u64 = 32 << 20;

/// What a catalog has of one box.
pub(super) struct Catalog {
    url: Url,
    /// What the box is called, where not by the document.
    name: Option<String>,
}

impl Catalog {
    /// The box `name` in the catalog at `base`.
    pub fn of_name(name: &str, base: Option<&Url>) -> Result<Self, BoxError> {
        let mut url = base.cloned().ok_or_else(|| BoxError::NoCatalog(name.to_owned()))?;
        let path = format!("{}/{name}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self { url, name: Some(name.to_owned()) })
    }

    /// The document at `url`.
    pub fn at(url: Url) -> Self {
        Self { url, name: None }
    }
}

impl Source for Catalog {
    fn offers(&self, errand: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        errand.progress.phase("asking the catalog", None);
        let answer = errand.client.get(&self.url, Some("application/json"), MAX_DOCUMENT, errand.stop)?;
        let wrong = |what: String| BoxError::Repository {
            server: shown(&self.url),
            what,
            hint: Some("is it the URL of a catalog of boxes?".to_owned()),
            kind: FaultKind::Box,
        };
        let (own, mut offers) = document::parse(&answer.bytes, &answer.url).map_err(wrong)?;
        let name = self.name.clone().unwrap_or(own);
        if !matches!(BoxRef::parse(&name), Ok(BoxRef::Named(_))) {
            return Err(wrong("calls the box by a name that is none".to_owned()));
        }
        offers.iter_mut().for_each(|offer| offer.name.clone_from(&name));
        Ok(offers)
    }

    fn bring(&self, offer: &Offer, _: &Errand<'_>) -> Result<Brought, BoxError> {
        let url = Url::parse(&offer.location).map_err(|_| BoxError::Repository {
            server: shown(&self.url),
            what: "says where the box is by something that is no URL".to_owned(),
            hint: None,
            kind: FaultKind::Box,
        })?;
        Ok(Brought::Url(Box::new(Remote::at(url, offer.checksum.clone()))))
    }
}
