//! Files that are written whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Writes `bytes` to `path` so that a reader, or a crash at any instant, sees the old content or the new.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::Io { doing: format!("write {}", path.display()), source })
}

/// Writes `value` as JSON, as [`write_whole`] does.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Io { doing: format!("write {}", path.display()), source: error.into() })?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// Reads a JSON file; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { doing: "read the state of a machine".to_owned(), source }),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Damaged { path: path.to_owned(), what: error.to_string() })
}

/// Removes a file; no error where there is none.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs_err::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { doing: format!("remove {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_and_damage_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &vec![1u8, 2]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![1, 2]));
        fs_err::write(&path, "[1,").unwrap();
        assert!(matches!(read_json::<Vec<u8>>(&path), Err(Error::Damaged { .. })));
        assert_eq!(fs_err::read_dir(temp.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
