//! Images and boxes in OCI registries.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use posada_fetch::{Checksum, FetchError, Request, Slot};

use super::fetch::LIMIT;
use super::{Brought, Errand, Offer, Source, stored_name};
use crate::oci::{Access, Descriptor, ImageRef, LoginPlaces, Manifest, Picture, Registry};
use crate::oci::{annotation, debian_architecture, read};
use crate::store::StoredBox;
use crate::unpack::Feed;
use crate::{BoxError, BoxRef, Form, Progress, Version};

/// Whom images of containers are for, as Vagrant calls it.
const IMAGES: &str = "docker";
/// How often a registry may want to see something new while one file comes.
const RENEWALS: usize = 32;

/// What a registry has under one name.
pub(super) struct Oci<'a> {
    image: &'a ImageRef,
    logins: &'a LoginPlaces,
}

impl<'a> Oci<'a> {
    pub fn new(image: &'a ImageRef, logins: &'a LoginPlaces) -> Self {
        Self { image, logins }
    }

    fn registry<'e>(&self, errand: &Errand<'e>) -> Result<Registry<'e>, BoxError> {
        Registry::open(self.image, Access::Pull, self.logins, errand.client, errand.progress, errand.stop)
    }

    fn offer(&self, digest: &Checksum) -> Result<Offer, BoxError> {
        Ok(Offer {
            name: stored_name(&BoxRef::Oci(self.image.clone())),
            version: version("0")?,
            provider: Some(IMAGES.to_owned()),
            architecture: None,
            default_architecture: true,
            location: digest.to_string(),
            checksum: None,
            signature: None,
            manifest: None,
        })
    }

    fn offers_of(&self, registry: &Registry<'_>) -> Result<Vec<Offer>, BoxError> {
        let (bytes, digest) = registry.manifest(&self.image.wanted())?;
        let mut one = self.offer(&digest)?;
        match read(&bytes).map_err(|what| registry.nonsense(what))? {
            Manifest::Index(manifests) => {
                let mut runnable: Vec<_> = manifests.into_iter().filter(is_for_linux).collect();
                // Of those that differ in their variant alone, the last is taken: the one for every machine.
                runnable.sort_by_key(|one| one.platform.as_ref().is_none_or(|on| on.variant.is_none()));
                let offers = runnable.iter().map(|one| {
                    let mut offer = self.offer(&one.digest)?;
                    offer.architecture = one.platform.as_ref().and_then(debian_architecture);
                    Ok(offer)
                });
                return offers.collect();
            }
            Manifest::Image { config, .. } => {
                let picture: Picture =
                    serde_json::from_slice(&registry.small(&config)?).map_err(|error| {
                        registry.nonsense(format!("has an image there that does not say what it is: {error}"))
                    })?;
                if !matches!(&*picture.os, "" | "linux") {
                    return Err(registry.nonsense(format!(
                        "has an image there for `{}`, where Linux is needed",
                        picture.os
                    )));
                }
                one.architecture = debian_architecture(&picture);
            }
            Manifest::Box { annotations, .. } => {
                one.provider = annotations.get(annotation::PROVIDER).cloned();
                one.architecture = annotations.get(annotation::ARCHITECTURE).cloned();
                if let Some(text) = annotations.get(annotation::VERSION) {
                    one.version = version(text)?;
                }
            }
        }
        Ok(vec![one])
    }
}

impl Source for Oci<'_> {
    fn offers(&self, errand: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        errand.progress.phase("asking the registry", None);
        self.offers_of(&self.registry(errand)?)
    }

    fn bring(&self, offer: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError> {
        let registry = self.registry(errand)?;
        let (bytes, _) = registry.manifest(&offer.location)?;
        let stored = match read(&bytes).map_err(|what| registry.nonsense(what))? {
            Manifest::Index(_) => {
                return Err(registry.nonsense("has an index within an index there".to_owned()));
            }
            Manifest::Box { file, .. } => {
                if let Some(stored) = errand.store.same(offer, Some(&file.digest), &errand.new_box(offer))? {
                    return Ok(Brought::Stored(Box::new(stored)));
                }
                Blobs { registry: &registry, errand, offer }.bring(&[file], |files| {
                    errand.store.add(&files[0].0, &errand.new_box(offer), errand.progress, errand.cancel)
                })?
            }
            Manifest::Image { layers, .. } => Blobs { registry: &registry, errand, offer }
                .bring(&layers, |files| self.add_layers(files, offer, errand))?,
        };
        Ok(Brought::Stored(Box::new(stored)))
    }
}

impl Oci<'_> {
    /// Makes a box of layers, the lowest first: files and their lengths.
    fn add_layers(
        &self,
        layers: &[(PathBuf, u64)],
        offer: &Offer,
        errand: &Errand<'_>,
    ) -> Result<StoredBox, BoxError> {
        let what = self.image.to_string();
        let failed = |error| BoxError::io("read", errand.store.root().join("downloads"), error);
        let total = layers.iter().map(|(_, size)| Feed::<PipeWriter>::length(*size)).sum();
        errand.progress.phase("unpacking", Some(total));
        let (reader, writer) = io::pipe().map_err(failed)?;
        std::thread::scope(|scope| {
            let feeding = scope.spawn(move || feed(writer, layers));
            let fed = || match feeding.join() {
                // Whoever reads has had enough, and says why.
                Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                Ok(fed) => fed.map_err(failed),
                Err(_) => Err(BoxError::Worker { what: "what hands it the layers panicked".to_owned() }),
            };
            let new = errand.new_box(offer);
            errand.store.ingest(
                &what,
                reader.into(),
                &new,
                Form::Rootfs,
                None,
                errand.progress,
                errand.cancel,
                fed,
            )
        })
    }
}

fn feed(writer: PipeWriter, layers: &[(PathBuf, u64)]) -> io::Result<()> {
    let mut feed = Feed::new(writer);
    for (number, (path, size)) in layers.iter().enumerate() {
        feed.layer(number, *size, File::open(path)?)?;
    }
    feed.end()
}

/// Brings content of a registry.
struct Blobs<'a> {
    registry: &'a Registry<'a>,
    errand: &'a Errand<'a>,
    offer: &'a Offer,
}

impl Blobs<'_> {
    /// Fetches `wanted` into the cache, has `add` make a box of it (paths and lengths in the order of `wanted`), and clears it
    /// out of the cache.
    fn bring(
        &self,
        wanted: &[Descriptor],
        add: impl FnOnce(&[(PathBuf, u64)]) -> Result<StoredBox, BoxError>,
    ) -> Result<StoredBox, BoxError> {
        let total =
            wanted.iter().try_fold(0_u64, |sum, one| sum.checked_add(one.size)).filter(|sum| *sum <= LIMIT);
        if total.is_none() {
            return Err(self
                .registry
                .nonsense(format!("has something there that is larger than {LIMIT} bytes")));
        }
        // Each once, as an image may have a layer twice; and in one order, so that two commands that want some of the same
        // do not wait for each other.
        let mut distinct: Vec<&Descriptor> = wanted.iter().collect();
        distinct.sort_by_key(|one| one.digest.to_string());
        distinct.dedup_by_key(|one| &one.digest);
        let began = SystemTime::now();
        let waited = Cell::new(false);
        let slots = distinct.iter().map(|one| self.slot(one, &waited)).collect::<Result<Vec<Slot>, _>>()?;
        if waited.get()
            && let Some(stored) = self.added_since(began)?
        {
            return Ok(stored);
        }
        self.errand.progress.phase("fetching", Some(distinct.iter().map(|one| one.size).sum()));
        let mut there = Vec::new();
        for (one, slot) in distinct.iter().zip(&slots) {
            there.push(self.fetch(one, slot)?);
        }
        let file = |one: &Descriptor| {
            let at = distinct.binary_search_by_key(&one.digest.to_string(), |other| other.digest.to_string());
            at.ok().and_then(|at| there.get(at)).map(|path: &PathBuf| (path.clone(), one.size))
        };
        let files: Vec<_> = wanted.iter().filter_map(file).collect();
        let added = add(&files);
        // What only lacked room or time is kept for the next time.
        if !matches!(added, Err(BoxError::Cancelled | BoxError::DiskFull(_) | BoxError::Io { .. })) {
            slots.into_iter().try_for_each(Slot::clear)?;
        }
        added
    }

    fn slot(&self, one: &Descriptor, waited: &Cell<bool>) -> Result<Slot, BoxError> {
        let url = self.registry.blob_url(&one.digest)?;
        let cache = self.errand.store.root().join("downloads");
        let open = || {
            let waiting = || {
                waited.set(true);
                self.errand.progress.phase("waiting for who fetches it already", None);
            };
            Slot::open(self.errand.client, &cache, &url, &waiting, self.errand.stop)
        };
        let slot = open()?;
        if !self.errand.options.clean {
            return Ok(slot);
        }
        slot.clear()?;
        Ok(open()?)
    }

    /// The box that another command has made of the same meanwhile.
    fn added_since(&self, began: SystemTime) -> Result<Option<StoredBox>, BoxError> {
        let new = self.errand.new_box(self.offer);
        let second = std::time::Duration::from_secs(1);
        let mut boxes = self.errand.store.list()?.into_iter();
        Ok(boxes.find(|stored| {
            stored.name == new.name && stored.version == new.version && stored.added + second > began
        }))
    }

    fn fetch(&self, one: &Descriptor, slot: &Slot) -> Result<PathBuf, BoxError> {
        let url = self.registry.blob_url(&one.digest)?;
        let request = Request { url: url.clone(), checksum: Some(one.digest.clone()), limit: one.size };
        let told = Told { progress: self.errand.progress, begun: AtomicBool::new(false) };
        let mut renewals = 0;
        let came = loop {
            match slot.fetch(&self.registry.client(), &request, &told, self.errand.stop) {
                // What it was shown was for a time only.
                Err(FetchError::Refused { .. }) if renewals < RENEWALS => {
                    renewals += 1;
                    self.registry.renew()?;
                }
                came => break came?,
            }
        };
        if came.size != one.size {
            let what = format!("says that `{}` has {} bytes, and sends {}", one.digest, one.size, came.size);
            return Err(self.registry.nonsense(what));
        }
        // It lay there whole.
        if !told.begun.load(Ordering::Relaxed) {
            self.errand.progress.resume(came.size);
        }
        Ok(came.path)
    }
}

/// Passes on what downloads tell as one.
struct Told<'a> {
    progress: &'a dyn Progress,
    /// Whether anything was told.
    begun: AtomicBool,
}

impl posada_fetch::Progress for Told<'_> {
    fn begin(&self, _: Option<u64>, have: u64) {
        // What came before an interruption in this process was told.
        if !self.begun.swap(true, Ordering::Relaxed) && have > 0 {
            self.progress.resume(have);
        }
    }

    fn came(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn note(&self, text: &str) {
        self.progress.warn(text);
    }
}

fn is_for_linux(one: &Descriptor) -> bool {
    one.platform.as_ref().is_none_or(|on| matches!(&*on.os, "" | "linux"))
}

fn version(text: &str) -> Result<Version, BoxError> {
    Version::parse(text).map_err(|error| BoxError::Name(error.to_string()))
}
