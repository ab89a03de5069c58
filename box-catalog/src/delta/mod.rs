//! Fetching what the store does not have yet of a file: its repository says which chunks it is made of, those that are in
//! boxes here are taken from them, and the others are asked for.

mod bundle;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod manifest;
mod seeds;
mod target;

use std::io;
use std::path::{Path, PathBuf};

use posada_chunks::Digest;
use posada_fetch::{Exchange, FetchError, Method};
use posada_provider_api::FaultKind;
use serde::Serialize;
use url::Url;

use crate::BoxError;
use crate::source::{Errand, Offer, Remote, form_of};
pub(crate) use manifest::FileManifest;
use target::Target;

/// The largest list of chunks, bytes: of a file of some 100 GiB.
const MAX_MANIFEST: u64 = 128 << 20;
/// Chunks that are asked for at once, and their bytes: an answer is held in memory.
const ASKED: usize = 4_096;
const BATCH: u64 = 8 << 20;
/// The parts of a path behind the repository's own: box, `versions`, version, provider, architecture, `manifest`.
const BELOW: usize = 7;

#[derive(Serialize)]
struct Digests<'a> {
    digests: &'a [Digest],
}

/// Brings the file that is `offered` into `directory`, where boxes here have a part of it; `None` where it is as well fetched as a whole:
/// nothing here is like it, its repository knows no chunks, or does not have those that it names.
pub(crate) fn fetch(
    errand: &Errand<'_>,
    offer: &Offer,
    remote: &Remote,
    directory: &Path,
) -> Result<Option<PathBuf>, BoxError> {
    let Some(url) = offer.manifest.as_ref().and_then(|url| Url::parse(url).ok()) else { return Ok(None) };
    let wanted = remote.checksum.as_ref().map(ToString::to_string);
    let Some(sha256) = wanted.as_ref().and_then(|sum| sum.strip_prefix("sha256:")) else { return Ok(None) };
    let form = offer.provider.as_deref().and_then(form_of).unwrap_or(errand.form);
    let seeds = errand.store.seeds(&offer.name, form)?;
    if seeds.is_empty() {
        return Ok(None);
    }
    let repository = Repository { errand, url };
    match repository.fetch(sha256, &seeds, directory) {
        Ok(path) => Ok(path),
        Err(error @ (BoxError::Cancelled | BoxError::DiskFull(_))) => Err(error),
        // As of a mirror that has not fetched the file itself yet.
        Err(BoxError::Fetch(FetchError::NotFound { .. })) => Ok(None),
        Err(error) => {
            errand.progress.warn(&format!("{error}; the whole file is fetched instead"));
            Ok(None)
        }
    }
}

struct Repository<'a> {
    errand: &'a Errand<'a>,
    /// Of the file's manifest.
    url: Url,
}

impl Repository<'_> {
    fn fetch(
        &self,
        sha256: &str,
        seeds: &[seeds::Seed],
        directory: &Path,
    ) -> Result<Option<PathBuf>, BoxError> {
        let Errand { client, stop, progress, .. } = self.errand;
        let document = client.get(&self.url, Some("application/json"), MAX_MANIFEST, stop)?;
        let manifest = FileManifest::parse(&document.bytes, sha256)
            .ok_or_else(|| self.wrong("says of a file that it is made of what it is not"))?;
        let path = directory.join("chunks");
        let failed = |error: io::Error| BoxError::io("write", path.clone(), error);
        let mut target = Target::open(&path, &manifest).map_err(failed)?;
        for seed in seeds {
            if target.missing_bytes() == 0 {
                break;
            }
            seed.give(&mut target, &path, self.errand)?;
        }
        let missing = target.missing_bytes();
        if missing > manifest.size / 10 * 9 {
            std::fs::remove_file(&path).map_err(failed)?;
            return Ok(None);
        }
        progress.phase("fetching what is new", Some(missing));
        for batch in batches(&target.missing()) {
            self.ask(&batch, &mut target, &path)?;
        }
        progress.phase("verifying", Some(manifest.size));
        let sound = target.is_sound(&|bytes| progress.advance(bytes)).map_err(failed)?;
        if !sound {
            std::fs::remove_file(&path).map_err(failed)?;
            return Err(self.wrong("says of a file that it is made of what it is not"));
        }
        Ok(Some(path))
    }

    fn ask(&self, digests: &[Digest], target: &mut Target, path: &Path) -> Result<(), BoxError> {
        let body =
            serde_json::to_vec(&Digests { digests }).map_err(|error| self.wrong(&error.to_string()))?;
        let mut url = self.url.clone();
        let own: Vec<&str> = self.url.path().split('/').collect();
        let own = own.len().checked_sub(BELOW).map(|count| own[..count].join("/"));
        let own = own.ok_or_else(|| self.wrong("has its list of chunks at a strange place"))?;
        url.set_path(&format!("{own}/api/v1/chunks/get"));
        let exchange = Exchange::new(Method::POST, &url).sending("application/json", body);
        let warn = |text: &str| self.errand.progress.warn(text);
        let answer = self.errand.client.exchange(&exchange, &warn, self.errand.stop)?;
        let mut bundle = answer.bytes.as_slice();
        while answer.status == 200
            && let Some((digest, bytes)) = bundle::next(&mut bundle)
        {
            let before = target.missing_bytes();
            target.give(&digest, &bytes).map_err(|error| BoxError::io("write", path, error))?;
            self.errand.progress.advance(before - target.missing_bytes());
        }
        match digests.iter().any(|digest| target.wants(digest)) {
            true => Err(self.wrong("does not give all the chunks of a file that it has")),
            false => Ok(()),
        }
    }

    fn wrong(&self, what: &str) -> BoxError {
        let server = posada_fetch::shown(&self.url);
        BoxError::Repository { server, what: what.to_owned(), hint: None, kind: FaultKind::Box }
    }
}

/// Divides chunks into what is asked for together.
fn batches(chunks: &[(Digest, u32)]) -> Vec<Vec<Digest>> {
    let (mut batches, mut bytes): (Vec<Vec<Digest>>, u64) = (Vec::new(), 0);
    for (digest, length) in chunks {
        bytes += u64::from(*length);
        match batches.last_mut().filter(|batch| bytes <= BATCH && batch.len() < ASKED) {
            Some(batch) => batch.push(*digest),
            None => {
                batches.push(vec![*digest]);
                bytes = u64::from(*length);
            }
        }
    }
    batches
}
