//! Where boxes come from: a reference resolves to a source, and there is a file here for each kind of it.
//!
//! A source says what it has ([`Offer`]s), one of which is chosen by what is [`Wanted`], and then says where its
//! file is, or brings it right into the store. A download that was broken off goes on where it ended.

mod beside;
mod bucket;
mod build;
mod catalog;
mod document;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod oci;
mod offer;
mod provider;
mod simplestreams;
mod streams;
mod url;

use ::url::Url;
use posada_fetch::{Checksum, Client, Settings, Stop};

pub use fetch::FetchOptions;
pub use offer::{Offer, Wanted};
pub use provider::form_of;

use crate::store::{NewBox, Store, StoredBox};
use crate::{BoxError, BoxRef, Cancel, Form, Progress};

/// How places elsewhere are reached.
#[derive(Debug, Clone, Default)]
pub struct Remotes {
    /// What the client for HTTP may use.
    pub settings: Settings,
    /// The catalog that boxes come from which are named and not in the store.
    pub catalog: Option<Url>,
    /// How buckets are reached, by the names that S3 clients know from the environment, in lower case: `aws_access_key_id`,
    /// `aws_endpoint`, ….
    pub buckets: Vec<(String, String)>,
    /// Whose boxes are taken.
    pub trust: crate::Trust,
    /// Where logins for OCI registries may be.
    pub logins: crate::LoginPlaces,
}

/// One kind of place that boxes come from.
pub trait Source {
    /// What it has of the box: every version, provider and architecture, in any order.
    ///
    /// # Errors
    /// Those of the place.
    fn offers(&self, errand: &Errand<'_>) -> Result<Vec<Offer>, BoxError>;

    /// Brings one of its offers, or says where it is.
    ///
    /// # Errors
    /// Those of the place; what came may be kept in the cache.
    fn bring(&self, offer: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError>;
}

/// What a source works with.
#[derive(Clone, Copy)]
pub struct Errand<'a> {
    /// Where the box is to come.
    pub store: &'a Store,
    /// The form that is needed.
    pub form: Form,
    /// What is to be done with it.
    pub options: &'a FetchOptions,
    /// Asks web servers.
    pub client: &'a Client,
    /// Ends what the client does.
    pub stop: &'a Stop,
    /// Receives what it has to tell.
    pub progress: &'a dyn Progress,
    /// Ends it early.
    pub cancel: &'a Cancel,
}

impl Errand<'_> {
    /// What a box is to be called in the store that `offer` is of.
    #[must_use]
    pub fn new_box(&self, offer: &Offer) -> NewBox {
        NewBox {
            name: self.options.name.clone().unwrap_or_else(|| offer.name.clone()),
            version: offer.version.clone(),
            user: None,
            replace: self.options.replace,
        }
    }
}

/// What a source has brought.
pub enum Brought {
    /// A file that is still to be fetched.
    Url(Box<Remote>),
    /// A box that the source has made in the store.
    Stored(Box<StoredBox>),
}

/// A file that is still to be fetched.
pub struct Remote {
    /// Where it is.
    pub url: Url,
    /// Where it can be had from for a while, where that is another URL, and one that lets in who has it.
    pub signed: Option<Url>,
    /// What it is to come to, as far as the source says.
    pub checksum: Option<Checksum>,
    /// Who says so, as far as the source says.
    pub signature: Option<String>,
}

impl Remote {
    /// The file at `url`.
    #[must_use]
    pub fn at(url: Url, checksum: Option<Checksum>) -> Self {
        Self { url, signed: None, checksum, signature: None }
    }
}

/// The source that `reference` names.
///
/// # Errors
/// [`BoxError::FileNotAdded`] for a file, [`BoxError::NoCatalog`], [`BoxError::NoRecipe`], [`BoxError::Recipe`].
pub(crate) fn source_of<'a>(
    reference: &'a BoxRef,
    remotes: &'a Remotes,
) -> Result<Box<dyn Source + 'a>, BoxError> {
    Ok(match reference {
        BoxRef::Named(name) => Box::new(catalog::Catalog::of_name(name, remotes.catalog.as_ref())?),
        BoxRef::Url(url) if url.file_name().ends_with(".json") => {
            Box::new(catalog::Catalog::at(url.url().clone()))
        }
        BoxRef::Url(url) => Box::new(url::WebFile(url.clone())),
        BoxRef::Bucket(at) => Box::new(bucket::InBucket::new(at, &remotes.buckets)),
        BoxRef::Build(recipe) => Box::new(build::Built(crate::build::recipe(recipe)?)),
        BoxRef::Oci(image) => Box::new(oci::Oci::new(image, &remotes.logins)),
        BoxRef::Simplestreams(image) => Box::new(simplestreams::Image(image)),
        BoxRef::File(path) => return Err(BoxError::FileNotAdded(path.clone())),
    })
}

/// The name that a box has in the store which `reference` names: readable, and another one for each reference.
pub(crate) fn stored_name(reference: &BoxRef) -> String {
    let (kind, readable) = match reference {
        BoxRef::Named(name) => return name.clone(),
        BoxRef::File(path) => ("file", path.to_string_lossy().into_owned()),
        BoxRef::Url(url) => ("url", url.file_name().to_owned()),
        BoxRef::Oci(image) => ("oci", image.to_string()),
        BoxRef::Simplestreams(image) => ("simplestreams", image.image().to_owned()),
        BoxRef::Bucket(at) => ("bucket", at.key().trim_end_matches('/').to_owned()),
        BoxRef::Build(rest) => ("build", rest.clone()),
    };
    digest_name(kind, String::from(reference.clone()).as_bytes(), &readable)
}

/// `kind/<12 digits>-<what is readable>`.
pub(crate) fn digest_name(kind: &str, whole: &[u8], readable: &str) -> String {
    use sha2::{Digest as _, Sha256};

    let stem = readable.rsplit('/').next().unwrap_or_default();
    let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let hash = crate::Digest::from_bytes(Sha256::digest(whole).into());
    format!("{kind}/{}-{}", hash.short(), stem.trim_start_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_a_name_of_its_own_in_the_store() {
        let name = |text: &str| stored_name(&BoxRef::parse(text).unwrap());
        assert_eq!(name("debian/12"), "debian/12");
        let sum = "0".repeat(32);
        let names = [
            "https://h/a.box",
            "https://g/a.box",
            &format!("https://h/a.box#md5={sum}"),
            "oci:h/a:1",
            "oci:h/a:2",
        ]
        .map(name);
        for (at, one) in names.iter().enumerate() {
            assert!(matches!(BoxRef::parse(one), Ok(BoxRef::Named(_))), "{one}");
            assert!(!names[at + 1..].contains(one), "{names:?}");
        }
        assert!(names[0].ends_with("-abox"), "{names:?}");
    }

    #[test]
    fn a_name_without_a_catalog_is_told() {
        let refused = source_of(&BoxRef::parse("team/web").unwrap(), &Remotes::default()).err().unwrap();
        assert!(matches!(refused, BoxError::NoCatalog(_)), "{refused}");
    }
}
