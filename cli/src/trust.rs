//! Whom the user trusts with which boxes: `trust.json` in Posada's home.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use posada_box_catalog::Trust;
use posada_box_catalog::trust::SigningKey;

use crate::context::env;
use crate::failure::{CliError, Result};

/// Has all boxes that are fetched be signed, whatever is kept.
const REQUIRE: &str = "POSADA_REQUIRE_SIGNED";
/// Opens a key that signs.
const PASSWORD: &str = "POSADA_SIGNING_PASSWORD";

/// What was kept, and what the environment says.
///
/// # Errors
/// [`CliError::Host`] where it cannot be read: it then must not count for nothing.
pub fn load(home: &Path) -> Result<Trust> {
    let mut trust = kept(home)?;
    trust.require_signed |= env(REQUIRE).is_some_and(|text| !matches!(text.as_str(), "" | "0" | "false"));
    Ok(trust)
}

/// What was kept.
///
/// # Errors
/// Those of [`load`].
pub fn kept(home: &Path) -> Result<Trust> {
    let path = file(home);
    let bytes = match fs_err::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Trust::default()),
        read => read.map_err(|error| CliError::host("cannot read whom you trust", error))?,
    };
    let damaged = |error: serde_json::Error| CliError::Host {
        what: format!("`{}` is damaged: {error}", path.display()),
        hint: Some("remove it, and give the keys again with `posada box trust add`".to_owned()),
        source: None,
    };
    Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
}

/// Keeps it.
///
/// # Errors
/// [`CliError::Host`].
pub fn save(home: &Path, trust: &Trust) -> Result<()> {
    let save = || -> std::io::Result<()> {
        fs_err::create_dir_all(home)?;
        let mut new = tempfile::NamedTempFile::new_in(home)?;
        new.write_all(&serde_json::to_vec_pretty(trust)?)?;
        new.as_file().sync_all()?;
        new.persist(file(home))?;
        Ok(())
    };
    Ok(save().map_err(|error| CliError::host("cannot keep whom you trust", error))?)
}

/// The key in `path`, opened by the password that the environment has, or that is asked for where `can_ask`.
///
/// # Errors
/// [`CliError`] where it cannot be read or there is no password; those of [`SigningKey::open`].
pub fn signing_key(path: &Path, can_ask: bool) -> Result<SigningKey> {
    let text = fs_err::read_to_string(path).map_err(|error| CliError::host("cannot read the key", error))?;
    if !SigningKey::is_encrypted(&text)? {
        return Ok(SigningKey::open(&text, None)?);
    }
    Ok(SigningKey::open(&text, Some(password(can_ask, false)?))?)
}

/// A password for a key.
///
/// # Errors
/// [`CliError::NoTerminal`] where it can be had from nowhere.
pub fn password(can_ask: bool, new: bool) -> Result<String> {
    if let Some(given) = env(PASSWORD).filter(|given| !given.is_empty()) {
        return Ok(given);
    }
    if !can_ask {
        let hint = format!("set {PASSWORD}, or make a key without one by `--no-password`");
        return Err(CliError::NoTerminal { question: "the key's password".to_owned(), hint }.into());
    }
    let mut asked = dialoguer::Password::new().with_prompt("Password of the key");
    if new {
        asked = asked.with_confirmation("Once more", "they differ");
    }
    let asked = asked.interact();
    Ok(asked
        .map_err(|dialoguer::Error::IO(error)| CliError::host("the password cannot be asked for", error))?)
}

fn file(home: &Path) -> PathBuf {
    home.join("trust.json")
}
