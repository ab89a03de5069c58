//! Small files of the user's own in Posada's home: read whole, written whole, and open to nobody else.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{CliError, Result};

/// What was kept in `path`, of `what` in words; `hint` says what to do where it makes no sense.
///
/// # Errors
/// [`CliError::Host`] where it cannot be read, or makes no sense.
pub fn load<T: DeserializeOwned + Default>(path: &Path, what: &str, hint: &str) -> Result<T> {
    let bytes = match fs_err::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(T::default()),
        read => read.map_err(|error| CliError::host(format!("cannot read {what}"), error))?,
    };
    let damaged = |error: serde_json::Error| CliError::Host {
        what: format!("`{}` is damaged: {error}", path.display()),
        hint: Some(hint.to_owned()),
        source: None,
    };
    Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
}

/// Keeps it in the file `name` of `home`.
///
/// # Errors
/// [`CliError::Host`].
pub fn save<T: Serialize>(home: &Path, name: &str, what: &str, value: &T) -> Result<()> {
    let save = || -> std::io::Result<()> {
        fs_err::create_dir_all(home)?;
        // Made with mode 0600.
        let mut new = tempfile::NamedTempFile::new_in(home)?;
        new.write_all(&serde_json::to_vec_pretty(value)?)?;
        new.as_file().sync_all()?;
        new.persist(home.join(name))?;
        Ok(())
    };
    Ok(save().map_err(|error| CliError::host(format!("cannot keep {what}"), error))?)
}
