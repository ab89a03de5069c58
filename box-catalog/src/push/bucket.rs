//! A box in a bucket, where [`crate::bucket::layout`] says.

use std::path::Path;

use posada_fetch::{Client, Stop};

use super::{Published, Pushed, whole};
use crate::bucket::{Bucket, layout};
use crate::trust::{SigningKey, sign};
use crate::{BoxError, BucketRef, Cancel, Progress};

/// The largest file of checksums that is read, bytes.
const MAX_SUMS: u64 = 4 << 10;

/// Brings the file at `path` below `at`. Its checksum is there first, and claims the place: what is there once stays as it is.
pub(super) fn push(
    client: &Client,
    (at, options): (&BucketRef, &[(String, String)]),
    path: &Path,
    to: &Published,
    key: Option<&SigningKey>,
    (progress, cancel, stop): (&dyn Progress, &Cancel, &Stop),
) -> Result<Pushed, BoxError> {
    let bucket = Bucket::open(at, options, client.settings(), stop)?;
    let file = layout::File {
        version: to.version.clone(),
        provider: to.provider.clone(),
        architecture: to.architecture.clone(),
    };
    let whole::Whole { size, digest } = whole::read(path, progress, cancel)?;
    let mut pushed = Pushed { size, chunks: 1, ..Pushed::default() };
    let (place, sums) = (at.below(&file.key()), file.sums(&digest));
    let sums_place = at.below(&file.sums_key());
    if !bucket.create(&sums_place, sums.clone().into_bytes())?
        && bucket.read(&sums_place, MAX_SUMS)?.as_deref() != Some(sums.as_bytes())
    {
        let hint =
            format!("give another version, or remove what is below `{place}` with the bucket's own tools");
        let what = format!("has {} {} for {} with other content", to.name, to.version, to.provider);
        return Err(bucket.refuse(what, Some(hint)));
    }
    if let Some(key) = key {
        progress.phase("signing", None);
        let signature = sign(key, &to.claim(), path)?;
        bucket.create(&at.below(&file.signature_key()), signature.into_bytes())?;
    }
    if !bucket.has(&place)? {
        progress.phase("pushing", Some(size));
        bucket.upload(&place, path, &digest, progress)?;
        pushed.new_chunks = 1;
        pushed.sent = size;
    }
    Ok(pushed)
}
