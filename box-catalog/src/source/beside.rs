//! What lies beside a file: checksums and signatures, as distributions publish them.

use posada_fetch::{Checksum, Client, FetchError, Stop, Sums};
use url::Url;

use crate::BoxError;

/// Files of checksums, the strongest first.
const SUMS: [&str; 2] = ["SHA512SUMS", "SHA256SUMS"];
/// The largest of them, bytes.
pub(super) const MAX_SUMS: u64 = 4 << 20;

/// The checksum of the file `name`, where one of the files of checksums has it that `read` finds by their names.
pub(super) fn checksum(
    name: &str,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, BoxError>,
) -> Result<Option<Checksum>, BoxError> {
    for sums in SUMS {
        let Some(bytes) = read(sums)? else { continue };
        if let Some(checksum) = Sums::parse(&String::from_utf8_lossy(&bytes)).of(name) {
            return Ok(Some(checksum.clone()));
        }
    }
    Ok(None)
}

/// What is at `url`, where there is anything.
pub(super) fn web(client: &Client, url: &Url, limit: u64, stop: &Stop) -> Result<Option<Vec<u8>>, BoxError> {
    match client.get(url, None, limit, stop) {
        Ok(document) => Ok(Some(document.bytes)),
        // There is none, which object stores call forbidden.
        Err(FetchError::NotFound { .. } | FetchError::Refused { .. } | FetchError::TooLarge { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
