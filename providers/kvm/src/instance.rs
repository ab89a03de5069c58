//! What cloud-init did for an instance, and whether it is on the disk.
//!
//! cloud-init does most things once per instance, and notes of each that it is done. Neither note nor deed is synced: a
//! power cut soon after a first boot can leave the notes and take the deeds, an empty host key for one, without which
//! sshd never starts again. So an instance that has begun counts as done once its system has ended by itself, which
//! writes everything; one that was cut off before begins anew, as an instance of another name.

use std::io::ErrorKind;
use std::path::Path;

use posada_provider_api::ProviderError;
use serde::{Deserialize, Serialize};

use crate::failure;
use crate::top::write_whole;

/// How an instance has fared, in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Its id in the seed.
    id: String,
    /// How often it has begun anew.
    attempt: u32,
    /// Whether what it did is on the disk.
    settled: bool,
}

/// Writes down in `path` that the instance `id` is about to be booted. Returns how often it has begun anew, this time
/// included.
pub(crate) fn begin(path: &Path, id: &str) -> Result<u32, ProviderError> {
    let attempt = match read(path)? {
        Some(before) if before.id == id && before.settled => return Ok(before.attempt),
        // Past every attempt of another seed: going back to an earlier one is no return to its half-done instance.
        Some(before) if before.id == id || !before.settled => before.attempt + 1,
        Some(before) => before.attempt,
        None => 0,
    };
    write(path, &Record { id: id.to_owned(), attempt, settled: false }).map(|()| attempt)
}

/// Writes down that the machine's system has ended by itself.
pub(crate) fn settle(path: &Path) -> Result<(), ProviderError> {
    match read(path)? {
        Some(record) if !record.settled => write(path, &Record { settled: true, ..record }),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<Record>, ProviderError> {
    match fs_err::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // One that cannot be understood says nothing of what is on the disk.
        Ok(text) => Ok(Some(serde_json::from_slice(&text).unwrap_or(Record {
            id: String::new(),
            attempt: 0,
            settled: false,
        }))),
        Err(error) => Err(failure::io("read in the machine's layer", &error)),
    }
}

fn write(path: &Path, record: &Record) -> Result<(), ProviderError> {
    serde_json::to_vec(record)
        .map_err(Into::into)
        .and_then(|text| write_whole(path, &text))
        .map_err(|error| failure::io("write in the machine's layer", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_was_cut_off_begins_anew() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("instance");
        settle(&path).expect("nothing has begun");
        assert_eq!(begin(&path, "a").unwrap(), 0);
        assert_eq!(begin(&path, "a").unwrap(), 1, "cut off");
        settle(&path).unwrap();
        assert_eq!(begin(&path, "a").unwrap(), 1, "it has settled under this name");
        assert_eq!(begin(&path, "a").unwrap(), 1, "and what follows takes nothing away");
        settle(&path).unwrap();
    }

    #[test]
    fn another_seed_is_another_instance() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("instance");
        assert_eq!(begin(&path, "a").unwrap(), 0);
        settle(&path).unwrap();
        assert_eq!(begin(&path, "b").unwrap(), 0);
        assert_eq!(begin(&path, "a").unwrap(), 1, "`b` was cut off, and `a` may have lost what it had");
        settle(&path).unwrap();
        assert_eq!(begin(&path, "b").unwrap(), 1, "not the name that was cut off");
        fs_err::write(&path, "{").unwrap();
        assert_eq!(begin(&path, "b").unwrap(), 1);
    }
}
