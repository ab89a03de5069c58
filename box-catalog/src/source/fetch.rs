//! Bringing a box from elsewhere into the store.

use std::cell::Cell;
use std::path::Path;

use posada_fetch::{Checksum, Client, Request, Slot};

use super::{Brought, Errand, Offer, Remote, Source, Wanted, beside, form_of, source_of};
use crate::delta;
use crate::store::{NewBox, Store, StoredBox};
use crate::trust::{Claim, MAX_SIGNATURE};
use crate::{BoxError, BoxRef, Cancel, Form, Progress, VersionReq, host_architecture};

/// The largest file that is fetched, bytes.
pub(super) const LIMIT: u64 = 1 << 42;

/// What is to be done with a box that is fetched.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// What it is called in the store; `None` takes what its source calls it.
    pub name: Option<String>,
    /// Whether it takes the place of other content of its name and version.
    pub replace: bool,
    /// What its content has to come to, where the source does not say, or is not believed.
    pub checksum: Option<Checksum>,
    /// Whether what came earlier is thrown away.
    pub clean: bool,
}

impl Store {
    /// Fetches what is `wanted` of the box that `reference` names into the store. A download that was broken off goes on.
    ///
    /// # Errors
    /// [`BoxError::NoCatalog`], [`BoxError::NotOffered`], [`BoxError::Fetch`],
    /// [`BoxError::Repository`], and those of [`Store::add`].
    pub fn fetch(
        &self,
        reference: &BoxRef,
        wanted: &Wanted,
        options: &FetchOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        self.errand(reference, wanted, options, progress, cancel, |source, errand| {
            let offer = wanted.choose(&reference.to_string(), source.offers(errand)?, host_architecture())?;
            let new = errand.new_box(&offer);
            let mut offer = offer;
            // A URL names no box: it is the one that it is called.
            if matches!(reference, BoxRef::Url(_)) && offer.provider.is_none() {
                offer.name.clone_from(&new.name);
            }
            // What comes as something else than one file has nothing that could be signed; what is built is the user's own.
            let signable =
                matches!(reference, BoxRef::Named(_) | BoxRef::Url(_) | BoxRef::Bucket(_) | BoxRef::Build(_));
            if !signable && self.remotes().trust.demands(&new.name) {
                let what = "boxes from there cannot be signed".to_owned();
                return Err(BoxError::Signature { name: new.name, what });
            }
            match source.bring(&offer, errand)? {
                Brought::Stored(stored) => Ok(*stored),
                Brought::Url(mut remote) => {
                    remote.checksum = options.checksum.clone().or(remote.checksum);
                    self.download(errand, &offer, &remote, &new, options.clean)
                }
            }
        })
    }

    /// What [`Store::fetch`] would fetch.
    ///
    /// # Errors
    /// [`BoxError::NoCatalog`], [`BoxError::NotOffered`], [`BoxError::Fetch`],
    /// [`BoxError::Repository`].
    pub fn offered(
        &self,
        reference: &BoxRef,
        wanted: &Wanted,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Offer, BoxError> {
        self.errand(reference, wanted, &FetchOptions::default(), progress, cancel, |source, errand| {
            wanted.choose(&reference.to_string(), source.offers(errand)?, host_architecture())
        })
    }

    fn errand<T>(
        &self,
        reference: &BoxRef,
        wanted: &Wanted,
        options: &FetchOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
        work: impl FnOnce(&dyn Source, &Errand<'_>) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        let remotes = self.remotes();
        let source = source_of(reference, remotes)?;
        let client = Client::new(remotes.settings.clone())?;
        let (stop, _watch) = cancel.stop();
        let by_provider = || wanted.provider.as_deref().and_then(form_of);
        let form = wanted.form.or_else(by_provider).unwrap_or(Form::Disk);
        work(&*source, &Errand { store: self, form, options, client: &client, stop: &stop, progress, cancel })
    }

    fn download(
        &self,
        errand: &Errand<'_>,
        offer: &Offer,
        remote: &Remote,
        new: &NewBox,
        clean: bool,
    ) -> Result<StoredBox, BoxError> {
        let there = || self.same(offer, remote.checksum.as_ref(), new);
        if let Some(stored) = there()? {
            return Ok(stored);
        }
        let cache = self.root().join("downloads");
        let waited = Cell::new(false);
        let open = || {
            let waiting = || {
                waited.set(true);
                errand.progress.phase("waiting for who fetches it already", None);
            };
            Slot::open(errand.client, &cache, &remote.url, &waiting, errand.stop)
        };
        let mut slot = open()?;
        if waited.get()
            && let Some(stored) = there()?
        {
            return Ok(stored);
        }
        if clean {
            slot.clear()?;
            slot = open()?;
        }
        let came = match delta::fetch(errand, offer, remote, slot.directory())? {
            Some(path) => path,
            None => {
                let url = remote.signed.as_ref().unwrap_or(&remote.url).clone();
                let request = Request { url, checksum: remote.checksum.clone(), limit: LIMIT };
                slot.fetch(errand.client, &request, &Told(errand.progress), errand.stop)?.path
            }
        };
        let signed = self.signed(errand, offer, remote, &came);
        let added = signed.and_then(|()| self.add(&came, new, errand.progress, errand.cancel));
        // What only lacked room or time is kept for the next time.
        if !matches!(added, Err(BoxError::Cancelled | BoxError::DiskFull(_) | BoxError::Io { .. })) {
            slot.clear()?;
        }
        added
    }

    /// Holds what came against its signature, where it has to have one: the source's, else that of a file beside it.
    fn signed(
        &self,
        errand: &Errand<'_>,
        offer: &Offer,
        remote: &Remote,
        file: &Path,
    ) -> Result<(), BoxError> {
        let trust = &self.remotes().trust;
        if !trust.demands(&offer.name) {
            return Ok(());
        }
        errand.progress.phase("verifying its signature", None);
        let signature = match remote.signature.as_ref().or(offer.signature.as_ref()) {
            Some(signature) => Some(signature.clone()),
            None if remote.signed.is_some() => None,
            None => {
                let mut there = remote.url.clone();
                there.set_path(&format!("{}.minisig", remote.url.path()));
                let bytes = beside::web(errand.client, &there, MAX_SIGNATURE, errand.stop)?;
                bytes.and_then(|bytes| String::from_utf8(bytes).ok())
            }
        };
        let claim = Claim {
            name: &offer.name,
            version: &offer.version,
            provider: offer.provider.as_deref(),
            architecture: offer.architecture.as_deref(),
        };
        trust.check(&claim, signature.as_deref(), file)
    }

    /// The box in the store that has this name, version and content.
    pub(super) fn same(
        &self,
        offer: &Offer,
        checksum: Option<&Checksum>,
        new: &NewBox,
    ) -> Result<Option<StoredBox>, BoxError> {
        let Some(checksum) = checksum.map(ToString::to_string) else { return Ok(None) };
        let boxes = self.list()?.into_iter();
        let mut same = boxes.filter(|stored| stored.name == new.name && stored.version == offer.version);
        Ok(same.find(|stored| format!("sha256:{}", stored.digest) == checksum))
    }

    /// Fetches what the store was found not to have, which `missing` says. A source that does not have it either, or cannot be
    /// asked, leaves that as the error.
    pub(crate) fn fetch_missing(
        &self,
        reference: &BoxRef,
        requirement: Option<&VersionReq>,
        form: Form,
        missing: BoxError,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<StoredBox, BoxError> {
        let named = matches!(reference, BoxRef::Named(_));
        // What is named otherwise has been fetched, and is what it is.
        let fetched = !named && matches!(missing, BoxError::MissingForm { .. });
        if fetched || (named && self.remotes().catalog.is_none()) {
            return Err(missing);
        }
        let wanted = Wanted { requirement: requirement.cloned(), ..Wanted::newest(form) };
        let options = FetchOptions { replace: !named, ..FetchOptions::default() };
        match self.fetch(reference, &wanted, &options, progress, cancel) {
            Ok(stored) => stored.layer(form).map(|_| stored),
            Err(BoxError::Cancelled) => Err(BoxError::Cancelled),
            Err(BoxError::Fetch(posada_fetch::FetchError::NotFound { .. })) if named => Err(missing),
            // Another form may do.
            Err(error) if matches!(missing, BoxError::MissingForm { .. }) => {
                progress.warn(&format!("the catalog was asked for `{reference}`, too: {error}"));
                Err(missing)
            }
            Err(error) => Err(error),
        }
    }
}

/// Passes on what a download tells.
struct Told<'a>(&'a dyn Progress);

impl posada_fetch::Progress for Told<'_> {
    fn begin(&self, total: Option<u64>, have: u64) {
        self.0.phase("fetching", total);
        if have > 0 {
            self.0.resume(have);
        }
    }

    fn came(&self, bytes: u64) {
        self.0.advance(bytes);
    }

    fn note(&self, text: &str) {
        self.0.warn(text);
    }
}
