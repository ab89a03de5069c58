//! Bringing a box to a repository: only those of its chunks travel that are not there yet.

mod api;
mod artifact;
mod bucket;
mod cut;
mod whole;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use posada_fetch::Client;
use posada_image::Format;
use posada_provider_api::DiskFormat;
use url::Url;

use crate::oci::{ImageRef, LoginPlaces};
use crate::pack::bundle;
use crate::trust::{Claim, SigningKey, sign};
use crate::{BoxError, BucketRef, Cancel, Export, Form, Progress, Store, StoredBox, Version, worker};
use api::Api;

/// How many chunks are asked about at once.
const ASKED: usize = 16_384;
/// Bytes of chunks, as they are, that travel together.
const BUNDLE: u64 = 16 << 20;
/// How often chunks may be gone again when the list of them is handed in.
const TRIES: usize = 3;

/// Where boxes are brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A repository of ours.
    Repository(Url),
    /// An OCI registry, under a tag; and where logins for it may be.
    Registry(ImageRef, LoginPlaces),
    /// Below a prefix of a bucket; and how it is reached ([`crate::Remotes::buckets`]).
    Bucket(BucketRef, Vec<(String, String)>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(url) => url.fmt(f),
            Self::Registry(image, _) => image.fmt(f),
            Self::Bucket(at, _) => at.fmt(f),
        }
    }
}

/// What a file is to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub place: Place,
    /// The box: `team/web`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// For which provider it is, as Vagrant calls it: `libvirt`.
    pub provider: String,
    /// For which architecture: `amd64`.
    pub architecture: String,
    /// Whether all may see it from now on; a version that was released does not change any more. Registries and buckets know no other
    /// way; registries let tags be moved.
    pub release: bool,
}

impl Published {
    fn claim(&self) -> Claim<'_> {
        Claim {
            name: &self.name,
            version: &self.version,
            provider: Some(&self.provider),
            architecture: Some(&self.architecture),
        }
    }
}

/// What a push came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Pushed {
    /// Bytes of the file.
    pub size: u64,
    /// Its chunks.
    pub chunks: usize,
    /// Those that were not there.
    pub new_chunks: usize,
    /// Bytes that were sent for them.
    pub sent: u64,
}

/// What becomes of a version as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All may see it, and it does not change any more.
    Released,
    /// It is not in the catalog any more; who knows its files' URLs can still fetch them.
    Yanked,
    /// It is in the catalog again.
    Unyanked,
}

/// Has the repository at `server` do that to a version.
///
/// # Errors
/// [`BoxError::Fetch`], [`BoxError::Repository`], [`BoxError::Cancelled`].
pub fn decide(
    client: &Client,
    server: &Url,
    (name, version): (&str, &Version),
    fate: Fate,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), BoxError> {
    let (stop, _watch) = cancel.stop();
    Api { client, server, stop: &stop, progress }.decide(name, version, fate)
}

/// Pushes the file at `path`, signed where there is a `key`; registries keep no signatures.
///
/// # Errors
/// [`BoxError::Io`], [`BoxError::Key`], [`BoxError::Fetch`], [`BoxError::Repository`], [`BoxError::Cancelled`]. What has arrived stays; the
/// next push of it goes on from there.
pub fn push_file(
    client: &Client,
    path: &Path,
    to: &Published,
    key: Option<&SigningKey>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Pushed, BoxError> {
    let (stop, _watch) = cancel.stop();
    let server = match &to.place {
        Place::Repository(server) => server,
        Place::Registry(image, logins) => {
            return artifact::push(client, logins, image, path, to, (progress, cancel, &stop));
        }
        Place::Bucket(at, options) => {
            return bucket::push(client, (at, options), path, to, key, (progress, cancel, &stop));
        }
    };
    let api = Api { client, server, stop: &stop, progress };
    let file = cut::cut(path, progress, cancel)?;
    let mut pushed = Pushed { size: file.size, chunks: file.chunks.len(), ..Pushed::default() };
    let mut wanted = file.distinct();
    for _ in 0..TRIES {
        let mut missing = Vec::new();
        for digests in wanted.chunks(ASKED) {
            missing.extend(api.missing(digests)?);
        }
        let places = file.places(&missing);
        progress.phase("pushing", Some(places.iter().map(|place| u64::from(place.length)).sum()));
        for places in bundles(&places) {
            let bundle = file.bundle(places)?;
            pushed.sent += bundle.len() as u64;
            api.put_chunks(bundle)?;
            progress.advance(places.iter().map(|place| u64::from(place.length)).sum());
        }
        pushed.new_chunks += missing.len();
        match api.put_manifest(to, &file.manifest())? {
            // Let go of in between: nobody had named them yet.
            Some(gone) => wanted = gone,
            None => {
                if let Some(key) = key {
                    progress.phase("signing", None);
                    api.put_signature(to, sign(key, &to.claim(), path)?)?;
                }
                if to.release {
                    progress.phase("releasing", None);
                    api.decide(&to.name, &to.version, Fate::Released)?;
                }
                return Ok(pushed);
            }
        }
    }
    Err(BoxError::Repository {
        server: posada_fetch::shown(server),
        what: "lets chunks go as soon as they come".to_owned(),
        hint: Some("whoever runs it should give pushes more time".to_owned()),
        kind: posada_provider_api::FaultKind::Environment,
    })
}

impl Store {
    /// Pushes a box of the store: its disk, packed as Vagrant's boxes for libvirt are, or its root file system as an archive. Neither is
    /// compressed, so that what versions share travels once.
    ///
    /// # Errors
    /// [`BoxError::MissingForm`] for a box without that form; else those of [`push_file`].
    pub fn push(
        &self,
        client: &Client,
        (stored, form): (&StoredBox, Form),
        to: &Published,
        key: Option<&SigningKey>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pushed, BoxError> {
        stored.layer(form)?;
        self.scratch(|scratch| {
            let file = match form {
                Form::Disk => {
                    let stored = self.in_place(stored.clone(), progress, cancel)?;
                    pack_disk(&stored, scratch.path(), progress, cancel)?
                }
                Form::Rootfs => self.pack_tree(stored, scratch.path(), progress, cancel)?,
            };
            push_file(client, &file, to, key, progress, cancel)
        })
    }
}

impl Store {
    /// Packs the root file system of `stored` into a file in `directory`.
    fn pack_tree(
        &self,
        stored: &StoredBox,
        directory: &Path,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<PathBuf, BoxError> {
        let Some(job) = stored.tree_job() else { return Err(BoxError::FileMissing(directory.to_owned())) };
        let output = directory.join("rootfs.tar");
        progress.phase("packing", None);
        let mut file = File::create(&output).map_err(|error| BoxError::io("write", &output, error))?;
        worker::pack(self.exe(), &job, cancel, |archive| io::copy(archive, &mut file).map(drop))?;
        Ok(output)
    }
}

/// Packs the disk of `stored` into a file in `directory`. It is not compressed: what travels is, chunk by chunk.
fn pack_disk(
    stored: &StoredBox,
    directory: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<PathBuf, BoxError> {
    let Some(disk) = stored.disk() else { return Err(BoxError::FileMissing(directory.to_owned())) };
    let image = match disk.format {
        DiskFormat::Qcow2 => disk.path,
        DiskFormat::Raw => {
            let output = directory.join(bundle::DISK);
            let wanted = Export { format: Format::Qcow2, stream_optimized: false, output, replace: false };
            stored.write_disk(&wanted, "packing", progress, cancel)?;
            wanted.output
        }
    };
    let output = directory.join("vagrant.box");
    let written = File::create(&output)
        .and_then(|out| bundle::disk(&image, disk.size, stored.metadata.architecture.as_deref(), out));
    written.map_err(|error| BoxError::io("write", &output, error))?;
    Ok(output)
}

/// Divides chunks into what travels together.
fn bundles(places: &[cut::Place]) -> impl Iterator<Item = &[cut::Place]> {
    let mut rest = places;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|place| {
            bytes += u64::from(place.length);
            bytes <= BUNDLE
        });
        // One chunk is smaller than a bundle.
        let (now, later) = rest.split_at(fits.count());
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}
