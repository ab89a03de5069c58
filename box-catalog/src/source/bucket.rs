//! A box in a bucket: a file, a catalog's document, or versions of a box as [`crate::bucket::layout`] puts them there.

use posada_fetch::Checksum;
use url::Url;

use super::{Brought, Errand, Offer, Remote, Source, beside, document, stored_name};
use crate::bucket::{Bucket, layout};
use crate::trust::MAX_SIGNATURE;
use crate::{BoxError, BoxRef, BucketRef, Version};

/// The largest document of a catalog, bytes.
const MAX_DOCUMENT: u64 = 32 << 20;

/// A box in a bucket.
pub(super) struct InBucket<'a> {
    at: &'a BucketRef,
    options: &'a [(String, String)],
}

impl<'a> InBucket<'a> {
    /// The one that `at` names, reached as `options` say.
    pub fn new(at: &'a BucketRef, options: &'a [(String, String)]) -> Self {
        Self { at, options }
    }

    fn open<'b>(&'b self, errand: &Errand<'b>) -> Result<Bucket<'b>, BoxError> {
        Bucket::open(self.at, self.options, &errand.store.remotes().settings, errand.stop)
    }

    /// What a document of a catalog offers, whose files may lie beside it.
    fn catalog(&self, bucket: &Bucket<'_>) -> Result<Vec<Offer>, BoxError> {
        let hint = || Some("is it the document of a catalog of boxes?".to_owned());
        let bytes = bucket.read(self.at.key(), MAX_DOCUMENT)?.ok_or_else(|| nothing(bucket, self.at))?;
        let base = self.at.url().map_err(|error| BoxError::Name(error.to_string()))?;
        let (name, mut offers) =
            document::parse(&bytes, &base).map_err(|what| bucket.refuse(what, hint()))?;
        if !matches!(BoxRef::parse(&name), Ok(BoxRef::Named(_))) {
            return Err(bucket.refuse("calls the box by a name that is none".to_owned(), hint()));
        }
        offers.iter_mut().for_each(|offer| offer.name.clone_from(&name));
        Ok(offers)
    }
}

impl Source for InBucket<'_> {
    fn offers(&self, errand: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        errand.progress.phase("asking the bucket", None);
        let (bucket, key) = (self.open(errand)?, self.at.key());
        if key.ends_with(".json") {
            return self.catalog(&bucket);
        }
        let named = || stored_name(&BoxRef::Bucket(self.at.clone()));
        let name = errand.options.name.clone().unwrap_or_else(named);
        if self.at.is_file() {
            return Ok(vec![Offer {
                name,
                version: Version::parse("0").map_err(|error| BoxError::Name(error.to_string()))?,
                provider: None,
                architecture: None,
                default_architecture: true,
                location: self.at.to_string(),
                checksum: self.at.checksum().cloned(),
                signature: None,
                manifest: None,
            }]);
        }
        let offers: Vec<Offer> = bucket
            .keys(key.trim_end_matches('/'))?
            .iter()
            .filter_map(|below| {
                let file = layout::File::of_key(below)?;
                Some(Offer {
                    name: name.clone(),
                    version: file.version,
                    provider: Some(file.provider),
                    architecture: Some(file.architecture),
                    default_architecture: false,
                    location: self.at.at(&self.at.below(below)).to_string(),
                    checksum: None,
                    signature: None,
                    manifest: None,
                })
            })
            .collect();
        if offers.is_empty() {
            return Err(nothing(&bucket, self.at));
        }
        Ok(offers)
    }

    fn bring(&self, offer: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError> {
        let url = Url::parse(&offer.location).map_err(|error| BoxError::Name(error.to_string()))?;
        let Ok(file) = BucketRef::parse(&offer.location) else {
            return Ok(Brought::Url(Box::new(Remote::at(url, offer.checksum.clone()))));
        };
        let bucket = self.open(errand)?;
        let (directory, name) = file.key().rsplit_once('/').unwrap_or(("", file.key()));
        let sibling = |name: &str| {
            if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
        };
        let checksum: Option<Checksum> = match &offer.checksum {
            Some(checksum) => Some(checksum.clone()),
            None => beside::checksum(name, |sums| bucket.read(&sibling(sums), beside::MAX_SUMS))?,
        };
        let signature = match &offer.signature {
            None if errand.store.remotes().trust.demands(&offer.name) => bucket
                .read(&sibling(&format!("{name}.minisig")), MAX_SIGNATURE)?
                .and_then(|bytes| String::from_utf8(bytes).ok()),
            signature => signature.clone(),
        };
        let signed = Some(bucket.url(file.key())?);
        Ok(Brought::Url(Box::new(Remote { url, signed, checksum, signature })))
    }
}

fn nothing(bucket: &Bucket<'_>, at: &BucketRef) -> BoxError {
    let hint = "it names a file (`s3://bucket/web.box`), or what `posada box push … --to s3://bucket/prefix` was given";
    bucket.refuse(format!("has no box at `{}`", at.key()), Some(hint.to_owned()))
}
